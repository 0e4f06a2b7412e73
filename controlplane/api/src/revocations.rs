//! `/tokens/…/revoke`: what was issued is not taken any more, from the control plane's own time on.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;
use ursa_crds::{DEFAULT_MESH, Kind, MeshSpec, Object, ObjectKey, RevokedToken, Spec, ZoneSpec};

use crate::body::Whole;
use crate::problem::Problem;
use crate::tokens::{decode, require};
use crate::{ApiState, body};

/// How often a write is tried while others write the same resource, and how long it waits in between.
const ATTEMPTS: u32 = 20;
const BETWEEN_ATTEMPTS: std::time::Duration = std::time::Duration::from_millis(50);

/// How far ahead a token may be issued: less than what clocks may differ by.
const SOON: SignedDuration = SignedDuration::from_secs(30);

type Answer = Result<Response, Problem>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DataplaneRequest {
    mesh: Option<String>,
    /// The token itself, which may be a zone's own.
    token: Option<String>,
    id: Option<String>,
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ZoneRequest {
    zone: String,
}

/// `POST /tokens/dataplane/revoke`: of the mesh that the token is for, or that is named with its id.
pub(crate) async fn dataplane(State(state): State<ApiState>, headers: HeaderMap, body: Whole) -> Answer {
    let DataplaneRequest { mesh, token, id, reason } = decode(&body)?;
    require(token.is_some() != id.is_some(), "token", "give the token, or its id")?;
    let said = mesh.as_deref();
    let (mesh, id, expires_at) = match (token, id) {
        (Some(token), _) => {
            let read = ursa_identity::read_unverified(token.trim());
            let read = read.map_err(|error| Problem::of_field("token", error.to_string()))?;
            require(
                !read.mesh.is_empty(),
                "token",
                "is of a zone ingress, which is in no mesh: it ends when it expires",
            )?;
            let is_of = said.is_none_or(|mesh| mesh == read.mesh);
            require(is_of, "mesh", &format!("the token is for mesh {}", read.mesh))?;
            (read.mesh, read.id, Some(read.expires_at))
        }
        (None, id) => (said.unwrap_or(DEFAULT_MESH).to_owned(), id.unwrap_or_default(), None),
    };
    let revoked_at = Timestamp::from_second(Timestamp::now().as_second()).ok();
    let entry = RevokedToken { id: id.clone(), revoked_at, expires_at, reason };
    let _alone = state.revoking.lock().await;
    let mut certificates = None;
    let entry = change(&state, &ObjectKey::mesh(&mesh), |spec| {
        let Spec::Mesh(spec) = spec else { return None };
        certificates = longest_certificate(spec);
        Some(revoke(spec, entry.clone()))
    })
    .await?;
    tracing::info!(mesh, token_id = id, reason = entry.reason, "a data-plane token was revoked");
    let end = entry.revoked_at.and_then(|at| at.checked_add(certificates?).ok());
    let mut answer = json!({"mesh": mesh, "revokedToken": entry});
    if let Some(end) = end {
        answer["certificatesEndBy"] = json!(end);
    }
    Ok(body::answer(StatusCode::OK, &headers, &answer))
}

/// `POST /tokens/zone/revoke`: every token that was issued for the zone so far.
pub(crate) async fn zone(State(state): State<ApiState>, headers: HeaderMap, body: Whole) -> Answer {
    let ZoneRequest { zone } = decode(&body)?;
    let _alone = state.revoking.lock().await;
    let not_before = change(&state, &ObjectKey::zone(&zone), |spec| {
        let Spec::Zone(ZoneSpec { credentials_not_before, .. }) = spec else { return None };
        // Tokens count in whole seconds. What was issued since a revocation of a moment ago says that it was then.
        let now = Timestamp::now();
        let last = credentials_not_before.filter(|last| *last > now).map_or(now, whole);
        Some(*credentials_not_before.insert(Timestamp::from_second(last.as_second() + 1).ok()?))
    })
    .await?;
    tracing::info!(zone, %not_before, "the credentials of a zone were revoked");
    let answer = json!({"zone": zone, "credentialsNotBefore": not_before});
    Ok(body::answer(StatusCode::OK, &headers, &answer))
}

/// What was revoked stays so when somebody replaces the resource and leaves it out, as in a file from before.
pub(crate) fn keep(state: &ApiState, object: &mut Object) {
    let known = state.store.get(&object.key());
    match (&mut object.spec, known.as_ref().map(|known| &known.spec)) {
        (Spec::Mesh(MeshSpec { revoked_tokens: said @ None, .. }), Some(Spec::Mesh(known))) => {
            said.clone_from(&known.revoked_tokens);
        }
        (
            Spec::Zone(ZoneSpec { credentials_not_before: said @ None, .. }),
            Some(Spec::Zone(ZoneSpec { credentials_not_before, .. })),
        ) => *said = *credentials_not_before,
        _ => {}
    }
}

/// What tokens of a zone that are issued now are to say of when, so that the zone takes them.
pub(crate) fn issued_at(spec: &ZoneSpec, now: Timestamp) -> Result<Timestamp, Problem> {
    let Some(not_before) = spec.credentials_not_before.filter(|not_before| *not_before > now) else {
        return Ok(now);
    };
    if not_before.duration_since(now) > SOON {
        return Err(Problem::conflict(format!(
            "the zone takes no token from before {not_before} (spec.credentialsNotBefore): wait, or set another time"
        )));
    }
    Ok(whole(not_before))
}

/// The next whole second, if it is none.
fn whole(time: Timestamp) -> Timestamp {
    let second = time.as_second() + i64::from(time.subsec_nanosecond() > 0);
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
}

/// The entry that is in force: one that was there says since when. Those that refuse nobody any more go.
fn revoke(spec: &mut MeshSpec, entry: RevokedToken) -> RevokedToken {
    let tokens = spec.revoked_tokens.get_or_insert_default();
    if let Some(known) = tokens.iter().find(|known| known.id == entry.id) {
        return known.clone();
    }
    if let Some(now) = entry.revoked_at {
        tokens.retain(|known| !known.is_over(now));
    }
    tokens.push(entry.clone());
    entry
}

fn longest_certificate(spec: &MeshSpec) -> Option<std::time::Duration> {
    let backends = spec.mtls.iter().flat_map(|mtls| &mtls.backends);
    backends.map(|backend| backend.dp_cert.rotation.expiration.get()).max()
}

/// Changes a resource that is there, whoever else writes it at the same time.
async fn change<T: Clone>(
    state: &ApiState,
    key: &ObjectKey,
    mut change: impl FnMut(&mut Spec) -> Option<T>,
) -> Result<T, Problem> {
    let missing = || Problem::not_found(format!("{key} does not exist"));
    state.may_write(key.kind)?;
    for _ in 0..ATTEMPTS {
        let known = state.store.get(key).ok_or_else(missing)?;
        let mut object = Object::clone(&known);
        let done = change(&mut object.spec).ok_or_else(missing)?;
        let problems = ursa_policy::validate(&object);
        if !problems.is_empty() {
            return Err(Problem::invalid(problems));
        }
        match state.store.put(object, Some(known.meta.resource_version)).await {
            Ok(_) => return Ok(done),
            // Somebody was faster: what they wrote is known soon.
            Err(ursa_store::StoreError::Conflict { .. }) => tokio::time::sleep(BETWEEN_ATTEMPTS).await,
            Err(error) => return Err(error.into()),
        }
    }
    Err(Problem::conflict(format!("{key} is written by others all the time; try again")))
}

/// Kinds of which [`keep`] keeps something.
pub(crate) fn is_kept(kind: Kind) -> bool {
    matches!(kind, Kind::Mesh | Kind::Zone)
}
