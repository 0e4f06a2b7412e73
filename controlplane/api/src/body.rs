//! Bodies: read whole within a bound; answered as JSON, or as YAML where that is asked for.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::BODY_LIMIT;
use crate::problem::Problem;

/// The body's bytes, or what is wrong with them.
pub(crate) fn read(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|rejection| match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(format!("a body may have {BODY_LIMIT} bytes")),
        _ => Problem::bad_request("the body ended early"),
    })
}

/// A value in the form that the client accepts.
pub(crate) fn answer(status: StatusCode, headers: &HeaderMap, value: &Value) -> Response {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepts.contains("yaml") {
        match serde_saphyr::to_string(value) {
            Ok(text) => (status, [(header::CONTENT_TYPE, "application/yaml")], text).into_response(),
            Err(error) => Problem::bad_request(format!("cannot be said as YAML: {error}")).into_response(),
        }
    } else {
        (status, Json(value)).into_response()
    }
}
