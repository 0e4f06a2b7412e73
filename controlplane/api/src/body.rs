//! Bodies: read whole within a bound; answered as JSON, or as YAML where that is asked for.

use std::future::poll_fn;
use std::pin::Pin;

use axum::Json;
use axum::body::HttpBody as _;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::BODY_LIMIT;
use crate::problem::Problem;

/// How much of a body that is too large is read all the same: a client that still writes when the connection is closed
/// would not see the answer.
const DRAIN_LIMIT: usize = 32 * 1024 * 1024;

/// The whole body of a request, of so many bytes at most.
#[derive(Debug)]
pub(crate) struct Whole<const LIMIT: usize = BODY_LIMIT>(pub(crate) Vec<u8>);

impl<S: Sync, const LIMIT: usize> FromRequest<S> for Whole<LIMIT> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let mut body = request.into_body();
        let (mut bytes, mut length) = (Vec::new(), 0);
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            let frame = frame.map_err(|_| Problem::bad_request("the body ended early"))?;
            let Some(data) = frame.data_ref() else { continue };
            length += data.len();
            if length <= LIMIT {
                bytes.extend_from_slice(data);
            }
            if length > DRAIN_LIMIT.max(LIMIT) {
                break;
            }
        }
        if length > LIMIT {
            return Err(Problem::too_large(format!("a body may have {LIMIT} bytes")));
        }
        Ok(Self(bytes))
    }
}

/// A value in the form that the client accepts.
pub(crate) fn answer(status: StatusCode, headers: &HeaderMap, value: &Value) -> Response {
    if wants_yaml(headers) {
        match serde_saphyr::to_string(value) {
            Ok(text) => (status, [(header::CONTENT_TYPE, "application/yaml")], text).into_response(),
            Err(error) => Problem::internal(format!("cannot be said as YAML: {error}")).into_response(),
        }
    } else {
        (status, Json(value)).into_response()
    }
}

/// The first form in `Accept` that there is decides; JSON if there is none.
fn wants_yaml(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut forms = accept.flat_map(|value| value.split(',')).filter_map(|range| {
        match range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "application/yaml" | "application/x-yaml" | "text/yaml" => Some(true),
            "application/json" | "application/*" | "*/*" => Some(false),
            _ => None,
        }
    });
    forms.next().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_is_for_those_who_ask_for_it() {
        let yaml =
            |accept: &str| wants_yaml(&HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]));
        assert!(yaml("application/yaml"));
        assert!(yaml("text/html, Application/YAML;q=0.9, */*"));
        assert!(!yaml("application/json, application/yaml"));
        assert!(!yaml("*/*"));
        assert!(!yaml("application/not-yaml"));
        assert!(!wants_yaml(&HeaderMap::new()));
    }
}
