//! `/tokens/…`: issues tokens. They are shown once and not kept.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use ursa_crds::{DEFAULT_MESH, Duration};
use ursa_identity::{DataplaneClaims, Issued, TokenError, UserClaims};

use crate::problem::Problem;
use crate::{ApiState, body};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DataplaneRequest {
    mesh: Option<String>,
    zone: Option<String>,
    name: Option<String>,
    #[serde(default)]
    services: Vec<String>,
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
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let request: DataplaneRequest = decode(body)?;
    let claims = DataplaneClaims {
        mesh: request.mesh.unwrap_or_else(|| DEFAULT_MESH.into()),
        zone: request.zone,
        name: request.name,
        services: request.services,
    };
    answer(&headers, state.tokens.issue_dataplane(&claims, request.valid_for.get(), Timestamp::now()))
}

pub(crate) async fn user(
    State(state): State<ApiState>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let request: UserRequest = decode(body)?;
    let claims = UserClaims { name: request.name, groups: request.groups };
    answer(&headers, state.tokens.issue_user(&claims, request.valid_for.get(), Timestamp::now()))
}

fn decode<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Problem> {
    let documents = ursa_crds::parse_documents(&body::read(body)?)?;
    let [document] = documents.as_slice() else {
        return Err(Problem::bad_request("the body must hold exactly one document"));
    };
    serde_path_to_error::deserialize(document).map_err(|error| {
        let field = error.path().to_string();
        Problem::invalid(vec![ursa_crds::Problem::new(field, error.into_inner().to_string())])
    })
}

fn answer(headers: &HeaderMap, issued: Result<Issued, TokenError>) -> Result<Response, Problem> {
    let Issued { token, expires_at } = issued
        .map_err(|error| Problem::invalid(vec![ursa_crds::Problem::new("validFor", error.to_string())]))?;
    let value = json!({"token": token, "expiresAt": expires_at});
    Ok(body::answer(StatusCode::CREATED, headers, &value))
}
