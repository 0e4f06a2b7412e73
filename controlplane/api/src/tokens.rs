//! `/tokens/…`: issues tokens. They are shown once and not kept.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ursa_crds::{DEFAULT_MESH, Duration, Kind, Meta, Object, ObjectKey, Spec, Tags, ZoneSpec};
use ursa_identity::{DataplaneClaims, Issued, TokenError, UserClaims, ZoneClaims};
use ursa_model::SpiffeId;

use crate::body::Whole;
use crate::problem::Problem;
use crate::{ApiState, body, revocations};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DataplaneRequest {
    mesh: Option<String>,
    zone: Option<String>,
    name: Option<String>,
    #[serde(default)]
    services: Vec<String>,
    #[serde(default)]
    tags: Tags,
    valid_for: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UserRequest {
    name: String,
    #[serde(default)]
    groups: Vec<String>,
    valid_for: Duration,
}

pub(crate) async fn dataplane(
    State(state): State<ApiState>,
    headers: HeaderMap,
    body: Whole,
) -> Result<Response, Problem> {
    let request: DataplaneRequest = decode(&body)?;
    let texts = [&request.mesh, &request.zone, &request.name].into_iter().zip(["mesh", "zone", "name"]);
    for (text, field) in texts {
        require(text.as_deref() != Some(""), field, "must not be empty; leave it out")?;
    }
    require(
        request.services.iter().all(|service| !service.is_empty()),
        "services",
        "a service must not be empty",
    )?;
    let bound = request.name.is_some() || !request.services.is_empty();
    require(bound, "services", "a data-plane token needs services, or a name")?;
    let problems = ursa_policy::token_tag_problems(&request.tags, "tags");
    if !problems.is_empty() {
        return Err(Problem::invalid(problems));
    }
    let claims = DataplaneClaims {
        mesh: request.mesh.unwrap_or_else(|| DEFAULT_MESH.into()),
        zone: request.zone,
        name: request.name,
        services: request.services,
        tags: request.tags,
    };
    answer(&headers, state.tokens.issue_dataplane(&claims, request.valid_for.get(), Timestamp::now()))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IngressRequest {
    name: String,
    valid_for: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ZoneRequest {
    zone: String,
    valid_for: Duration,
}

/// For the agent of a zone ingress, which is in no mesh.
pub(crate) async fn ingress(
    State(state): State<ApiState>,
    headers: HeaderMap,
    body: Whole,
) -> Result<Response, Problem> {
    let request: IngressRequest = decode(&body)?;
    require(!request.name.is_empty(), "name", "an ingress token needs a name")?;
    let zone = Some(state.info.zone.clone());
    let claims = DataplaneClaims {
        mesh: String::new(),
        zone,
        name: Some(request.name),
        services: Vec::new(),
        tags: Tags::new(),
    };
    answer(&headers, state.tokens.issue_dataplane(&claims, request.valid_for.get(), Timestamp::now()))
}

/// For a zone's control plane; makes the zone if there is none. The answer's `ca` holds the authorities that the zone
/// trusts this control plane by.
pub(crate) async fn zone(
    State(state): State<ApiState>,
    headers: HeaderMap,
    body: Whole,
) -> Result<Response, Problem> {
    let request: ZoneRequest = decode(&body)?;
    require(SpiffeId::is_label(&request.zone), "zone", "must be a DNS label")?;
    state.may_write(Kind::Zone)?;
    let ca = state.authorities().await?;
    let (uid, spec) = known_zone(&state, &request.zone).await?;
    let now = revocations::issued_at(&spec, Timestamp::now())?;
    let claims = ZoneClaims { uid, zone: request.zone };
    let issued = issued(state.tokens.issue_zone(&claims, request.valid_for.get(), now))?;
    Ok(secret(&headers, &json!({"token": issued.token, "expiresAt": issued.expires_at, "ca": ca})))
}

/// The zone that there is, or is from now on, with its UID.
async fn known_zone(state: &ApiState, zone: &str) -> Result<(String, ZoneSpec), Problem> {
    let key = ObjectKey::zone(zone);
    if let Some(known) = state.store.get(&key)
        && let Spec::Zone(spec) = &known.spec
    {
        return Ok((known.meta.uid.clone(), spec.clone()));
    }
    let meta = Meta { name: zone.to_owned(), ..Meta::default() };
    let object = Object { meta, spec: Spec::Zone(ZoneSpec::default()) };
    match state.store.put(object, Some(0)).await {
        Ok(written) => {
            tracing::info!(%key, "made, for its token");
            Ok((written.object.meta.uid.clone(), ZoneSpec::default()))
        }
        Err(error) => Err(Problem::from(error)),
    }
}

pub(crate) async fn user(
    State(state): State<ApiState>,
    headers: HeaderMap,
    body: Whole,
) -> Result<Response, Problem> {
    let request: UserRequest = decode(&body)?;
    require(!request.name.is_empty(), "name", "a user token needs a name")?;
    let claims = UserClaims { name: request.name, groups: request.groups };
    answer(&headers, state.tokens.issue_user(&claims, request.valid_for.get(), Timestamp::now()))
}

pub(crate) fn decode<T: DeserializeOwned>(body: &Whole) -> Result<T, Problem> {
    let documents = ursa_crds::parse_documents(&body.0)?;
    let [document] = documents.as_slice() else {
        return Err(Problem::bad_request("the body must hold exactly one document"));
    };
    serde_path_to_error::deserialize(document).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        // A field that is missing or unknown is in the message only.
        let named = message.split('`').nth(1).filter(|_| path == ".").map(str::to_owned);
        Problem::of_field(named.unwrap_or(path), message)
    })
}

/// What would be a token for nobody or for nothing.
pub(crate) fn require(holds: bool, field: &str, message: &str) -> Result<(), Problem> {
    holds.then_some(()).ok_or_else(|| Problem::of_field(field, message))
}

fn answer(headers: &HeaderMap, token: Result<Issued, TokenError>) -> Result<Response, Problem> {
    let Issued { token, expires_at } = issued(token)?;
    Ok(secret(headers, &json!({"token": token, "expiresAt": expires_at})))
}

fn issued(token: Result<Issued, TokenError>) -> Result<Issued, Problem> {
    token.map_err(|error| match error {
        TokenError::Key(_) => Problem::internal(error.to_string()),
        // What else can be refused was required before.
        error => Problem::of_field("validFor", error.to_string()),
    })
}

fn secret(headers: &HeaderMap, value: &Value) -> Response {
    let mut response = body::answer(StatusCode::CREATED, headers, value);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
