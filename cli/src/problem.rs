//! What a control plane says when it refuses: problem documents. Source: RFC 9457.

use std::fmt;

use reqwest::StatusCode;
use serde::Deserialize;

/// A refusal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The status of the answer.
    pub(crate) status: StatusCode,
    document: Option<Document>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Document {
    title: String,
    detail: String,
    errors: Vec<FieldError>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct FieldError {
    field: String,
    message: String,
}

impl Refusal {
    /// From an answer. `body` need not be a problem document: something else may have answered.
    pub(crate) fn new(status: StatusCode, body: &[u8]) -> Self {
        Self { status, document: serde_json::from_slice(body).ok() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let document = self.document.as_ref();
        match document {
            // The detail would say the same again.
            Some(Document { errors, .. }) if !errors.is_empty() => {
                let texts: Vec<String> =
                    errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect();
                f.write_str(&texts.join("; "))?;
            }
            Some(Document { detail, .. }) if !detail.is_empty() => f.write_str(detail)?,
            Some(Document { title, .. }) if !title.is_empty() => f.write_str(title)?,
            _ => {
                return write!(
                    f,
                    "answered {}, and not as a control plane does: is this the URL of its API?",
                    self.status
                );
            }
        }
        match self.status {
            StatusCode::UNAUTHORIZED => f.write_str(" (401: see --token-file)"),
            status => write!(f, " ({})", status.as_u16()),
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(status: u16, body: &str) -> String {
        Refusal::new(StatusCode::from_u16(status).unwrap(), body.as_bytes()).to_string()
    }

    #[test]
    fn fields_say_more_than_the_detail_and_the_detail_more_than_the_title() {
        let fields = r#"{"title":"T","detail":"D","status":422,"errors":[{"field":"a.b","message":"x"},{"field":"c","message":"y"}]}"#;
        assert_eq!(text(422, fields), "a.b: x; c: y (422)");
        assert_eq!(text(409, r#"{"title":"T","detail":"D"}"#), "D (409)");
        assert_eq!(text(409, r#"{"title":"T","type":"about:blank"}"#), "T (409)");
        assert_eq!(text(401, r#"{"detail":"no"}"#), "no (401: see --token-file)");
    }

    #[test]
    fn an_answer_of_something_else_is_told_from_a_refusal() {
        for body in ["", "<html>", "{}", "[]", "7"] {
            let text = text(502, body);
            assert!(text.contains("502 Bad Gateway") && text.contains("URL"), "{body}: {text}");
        }
    }
}
