//! `GET /backup` and `POST /restore`: a global control plane with its keys, as one document.
//!
//! Invariant: a document is checked whole before anything of it is written, and what is not empty is not overwritten.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Value, json};
use ursa_crds::{DEFAULT_MESH, KINDS, Kind, MeshSpec, Object, ObjectKey, Owner, Spec};
use ursa_identity::{ServerTls, Tokens};
use ursa_store::names::{ADOPTED, SERVER_TLS, TOKEN_SIGNING_KEY, UNHEARD};
use ursa_store::{Snapshot, Store, checksum};

use crate::body::{self, Whole};
use crate::problem::Problem;
use crate::{ApiState, Mode};

/// What the document is; another number: not for this version.
const FORMAT: &str = "ursa-backup/1";
/// Bytes of a backup at most.
pub(crate) const LIMIT: usize = 256 * 1024 * 1024;
/// Objects that are named in a refusal.
const NAMED: usize = 10;

/// Everything that another global control plane needs to be this one. It holds keys.
pub(crate) async fn take(State(state): State<ApiState>, headers: HeaderMap) -> Result<Response, Problem> {
    of_global(&state)?;
    let snapshot = state.store.snapshot().await?;
    tracing::info!(objects = snapshot.objects.len(), "gave out a backup with all keys");
    let document = document(&snapshot.to_value(), &state.info.version, Timestamp::now());
    let mut response = body::answer(StatusCode::OK, &headers, &document);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Makes this control plane, which must be empty, the one that the backup was taken of.
pub(crate) async fn restore(
    State(state): State<ApiState>,
    headers: HeaderMap,
    body: Whole<LIMIT>,
) -> Result<Response, Problem> {
    of_global(&state)?;
    let document: Value = serde_json::from_slice(&body.0)
        .map_err(|error| Problem::bad_request(format!("this is no backup: {error}")))?;
    let snapshot = read(&document)?;
    check(&snapshot, &state.store)?;
    // Nobody writes meanwhile, so that what is found empty stays so.
    let _alone = state.meshes.write().await;
    let removals = to_be_replaced(&state.store, &snapshot)?;
    let zones = names(&snapshot, Kind::Zone);
    let objects = snapshot.objects.len();
    let further = BTreeMap::from([
        // Zones follow it as the one that they knew; another value each time, so that they begin anew.
        (ADOPTED.to_owned(), format!("restored at {}", Timestamp::now())),
        (UNHEARD.to_owned(), json!(zones).to_string()),
    ]);
    state.store.restore(disconnected(snapshot), removals, further).await?;
    tracing::info!(objects, backup = %document["createdAt"], "restored from a backup");
    let answer = json!({
        "objects": objects, "zones": zones, "createdAt": document["createdAt"], "version": document["version"],
    });
    Ok(body::answer(StatusCode::CREATED, &headers, &answer))
}

fn of_global(state: &ApiState) -> Result<(), Problem> {
    if state.info.mode == Mode::Global {
        return Ok(());
    }
    Err(Problem::conflict("only a global control plane is backed up like this: ask global"))
}

fn document(content: &Value, version: &str, now: Timestamp) -> Value {
    json!({
        "format": FORMAT, "version": version, "createdAt": now.to_string(),
        "checksum": checksum(content), "content": content,
    })
}

/// The snapshot in a document, if that is as it was written.
fn read(document: &Value) -> Result<Snapshot, Problem> {
    match document["format"].as_str() {
        Some(FORMAT) => {}
        Some(other) if other.starts_with("ursa-backup/") => {
            return Err(Problem::unprocessable(format!(
                "the backup has the format {other}, of Ursa {}; this version reads {FORMAT}",
                document["version"].as_str().unwrap_or("of unknown version")
            )));
        }
        _ => return Err(Problem::bad_request("this is no backup of Ursa's: it does not say its format")),
    }
    let content = &document["content"];
    if document["checksum"].as_str() != Some(&checksum(content)) {
        return Err(Problem::unprocessable(
            "the backup is damaged: its content is not what its checksum says; take another one",
        ));
    }
    Snapshot::from_value(content).map_err(|error| Problem::of_field(error.field, error.message))
}

/// Whether this control plane can be what the snapshot says.
fn check(snapshot: &Snapshot, store: &Store) -> Result<(), Problem> {
    let mut problems = Vec::new();
    for object in &snapshot.objects {
        let key = object.key();
        problems.extend(
            ursa_policy::validate(object)
                .into_iter()
                .map(|problem| ursa_crds::Problem::new(format!("{key}: {}", problem.field), problem.message)),
        );
        if !store.has_namespaces() && !key.namespace.is_empty() {
            let message =
                "there are no namespaces outside Kubernetes: this backup can be restored there only";
            problems.push(ursa_crds::Problem::new(format!("{key}: metadata.namespace"), message));
        }
    }
    let mut unusable = |name: &str, error: String| {
        problems.push(ursa_crds::Problem::new(format!("private.{name}"), error));
    };
    match snapshot.private.get(TOKEN_SIGNING_KEY) {
        None => unusable(TOKEN_SIGNING_KEY, "is missing: no token would count".into()),
        Some(key) => {
            if let Err(error) = Tokens::from_private_pem(key) {
                unusable(TOKEN_SIGNING_KEY, error.to_string());
            }
        }
    }
    if let Some(tls) = snapshot.private.get(SERVER_TLS)
        && let Err(error) = ServerTls::from_private_json(tls).and_then(|tls| tls.served().map(drop))
    {
        unusable(SERVER_TLS, error.to_string());
    }
    if problems.is_empty() { Ok(()) } else { Err(Problem::invalid(problems)) }
}

/// What is here by itself and not in the backup. Refused if there is anything else: what somebody made here, or left over of
/// another control plane. What the backup has, too, is there because it was restored before, perhaps not to its end.
fn to_be_replaced(store: &Store, snapshot: &Snapshot) -> Result<Vec<ObjectKey>, Problem> {
    let restored: BTreeMap<ObjectKey, &Object> =
        snapshot.objects.iter().map(|object| (object.key(), object)).collect();
    let (mut removals, mut others) = (Vec::new(), Vec::new());
    let users = KINDS.iter().filter(|info| matches!(info.owner, Owner::Global | Owner::GlobalOnly));
    for object in users.flat_map(|info| store.list(info.kind)) {
        let key = object.key();
        match restored.get(&key) {
            Some(same) if is_same(&object, same) => {}
            _ if !is_default(&object) => others.push(key.to_string()),
            Some(_) => {}
            None => removals.push(key),
        }
    }
    if others.is_empty() {
        return Ok(removals);
    }
    let more = others.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    others.truncate(NAMED);
    Err(Problem::conflict(format!(
        "only an empty control plane takes a backup, and here is what it has not, or has otherwise: {}{more}. Delete that, or restore into a new control plane",
        others.join(", ")
    )))
}

fn is_same(a: &Object, b: &Object) -> bool {
    a.spec == b.spec && a.meta.labels == b.meta.labels && a.meta.annotations == b.meta.annotations
}

/// As each control plane makes it at its first start.
fn is_default(object: &Object) -> bool {
    object.meta.name == DEFAULT_MESH
        && object.spec == Spec::Mesh(MeshSpec::default())
        && object.meta.labels.is_empty()
        && object.meta.annotations.is_empty()
}

fn names(snapshot: &Snapshot, kind: Kind) -> BTreeSet<String> {
    let objects = snapshot.objects.iter().filter(|object| object.kind() == kind);
    objects.map(|object| object.meta.name.clone()).collect()
}

/// No zone is connected, whatever was so when the backup was taken.
fn disconnected(mut snapshot: Snapshot) -> Snapshot {
    for object in &mut snapshot.objects {
        if let Spec::ZoneInsight(insight) = &mut object.spec
            && insight.connected
        {
            insight.connected = false;
            insight.disconnected_at = Some(Timestamp::now());
        }
    }
    snapshot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_of_another_time_or_kind_is_told_from_a_damaged_one() {
        let content = Snapshot::default().to_value();
        let document = document(&content, "1.2.3", Timestamp::UNIX_EPOCH);
        assert_eq!(read(&document).unwrap(), Snapshot::default());
        let refused = |change: fn(&mut Value)| {
            let mut document = document.clone();
            change(&mut document);
            let problem = read(&document).unwrap_err();
            (problem.status(), problem.to_string())
        };
        let (status, text) = refused(|document| document["format"] = json!("ursa-backup/2"));
        assert!(status == 422 && text.contains("ursa-backup/2, of Ursa 1.2.3"), "{text}");
        assert_eq!(refused(|document| *document = json!([1])).0, 400);
        let (status, text) = refused(|document| document["content"]["private"]["x"] = json!("y"));
        assert!(status == 422 && text.contains("damaged"), "{text}");
        let (status, text) = refused(|document| {
            document["content"]["queue"] = json!([]);
            document["checksum"] = json!(checksum(&document["content"]));
        });
        assert!(status == 422 && text.contains("queue: is not known"), "{text}");
    }
}
