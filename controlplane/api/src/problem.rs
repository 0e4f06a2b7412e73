//! Errors as problem documents. Source: RFC 9457.

use std::fmt;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use ursa_crds::DecodeError;
use ursa_store::StoreError;

/// What went wrong, for people and programs.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    #[serde(skip)]
    code: StatusCode,
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

/// What is wrong with one field.
#[derive(Debug, Serialize)]
struct FieldError {
    field: String,
    message: String,
}

impl Problem {
    fn new(code: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            r#type: "about:blank",
            title: code.canonical_reason().unwrap_or("Error"),
            status: code.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
        }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// A field that contradicts the path.
    pub(crate) fn contradiction(field: &str, message: String) -> Self {
        let errors = vec![FieldError { field: field.into(), message: message.clone() }];
        Self { errors, ..Self::bad_request(format!("{field}: {message}")) }
    }

    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "the path does not take this method")
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    pub(crate) fn precondition_failed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, detail)
    }

    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    pub(crate) fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// A failure of the server.
    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// What is wrong with one field.
    pub(crate) fn of_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![ursa_crds::Problem::new(field, message)])
    }

    pub(crate) fn invalid(problems: Vec<ursa_crds::Problem>) -> Self {
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let errors =
            problems.into_iter().map(|p| FieldError { field: p.field, message: p.message }).collect();
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, texts.join("; ")) }
    }
}

impl Problem {
    /// As Kubernetes says it. Source: `Status` in `meta/v1`.
    pub(crate) fn to_status(&self) -> Value {
        let causes: Vec<Value> = (self.errors.iter())
            .map(|error| json!({"reason": "FieldValueInvalid", "field": error.field, "message": error.message}))
            .collect();
        let reason = if self.code == StatusCode::CONFLICT { "Conflict" } else { "Invalid" };
        json!({"code": self.status, "reason": reason, "message": self.detail, "details": {"causes": causes}})
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Unreadable(reason) => {
                Self::bad_request(format!("the body cannot be read: {reason}"))
            }
            DecodeError::Invalid(problem) => Self::invalid(vec![problem]),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Conflict { .. } => Self::conflict(error.to_string()),
            StoreError::NotFound(key) => Self::not_found(format!("{key} does not exist")),
            StoreError::Refused(reason) => Self::unprocessable(reason.clone()),
            StoreError::Disk(_) | StoreError::Unreachable(_) | StoreError::Closed => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).expect("texts and a number serialize");
        let mut response = (self.code, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.code == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
