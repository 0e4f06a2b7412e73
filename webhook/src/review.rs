//! What the API server asks, and what it is answered.
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>.
//!
//! The object stays JSON: types of today would drop the fields of tomorrow, and a patch would remove them.

use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::{Value, json};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Option<Request>,
}

/// What the API server asks. Users and options are not looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request {
    pub(crate) uid: String,
    pub(crate) kind: GroupKind,
    pub(crate) resource: GroupResource,
    #[serde(default)]
    pub(crate) sub_resource: String,
    #[serde(default)]
    pub(crate) namespace: String,
    pub(crate) operation: String,
    /// `null` when it is deleted.
    #[serde(default)]
    pub(crate) object: Value,
    /// As it was; `null` when it is created.
    #[serde(default)]
    pub(crate) old_object: Value,
}

#[derive(Debug, Deserialize)]
pub(crate) struct GroupKind {
    #[serde(default)]
    pub(crate) group: String,
    pub(crate) kind: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct GroupResource {
    #[serde(default)]
    pub(crate) group: String,
    pub(crate) resource: String,
}

/// What is wrong with one field.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FieldError {
    pub(crate) field: String,
    pub(crate) message: String,
}

/// What is answered, each with a short word for metrics.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// As it is.
    Allowed(&'static str),
    /// With this patch.
    Patched(json_patch::Patch),
    /// Not at all: the user has to change something.
    Refused { why: &'static str, message: String, fields: Vec<FieldError> },
    /// Not now: something here has to change.
    Failed { why: &'static str, message: String },
}

/// Reads a review; the error is for who configured what sent it.
pub(crate) fn read(body: &[u8]) -> Result<Request, String> {
    let review: Review =
        serde_json::from_slice(body).map_err(|error| format!("this is no {KIND}: {error}"))?;
    if review.api_version != API_VERSION || review.kind != KIND {
        return Err(format!(
            "this is a {} {:?}, and only {API_VERSION} {KIND} is answered",
            review.kind, review.api_version
        ));
    }
    review.request.ok_or_else(|| format!("this {KIND} has no request"))
}

/// The answer's body.
pub(crate) fn answer(uid: &str, verdict: &Verdict) -> Value {
    let mut response = json!({"uid": uid, "allowed": true});
    match verdict {
        Verdict::Allowed(_) => {}
        Verdict::Patched(patch) => {
            let bytes = serde_json::to_vec(patch).expect("a patch has a JSON form");
            response["patchType"] = json!("JSONPatch");
            response["patch"] = json!(ByteString(bytes));
        }
        Verdict::Refused { message, fields, .. } => {
            let causes: Vec<Value> = fields
                .iter()
                .map(|error| json!({"reason": "FieldValueInvalid", "field": error.field, "message": error.message}))
                .collect();
            response["allowed"] = json!(false);
            response["status"] = if causes.is_empty() {
                json!({"code": 403, "reason": "Forbidden", "message": message})
            } else {
                json!({"code": 422, "reason": "Invalid", "message": message, "details": {"causes": causes}})
            };
        }
        Verdict::Failed { message, .. } => {
            response["allowed"] = json!(false);
            response["status"] = json!({"code": 503, "reason": "ServiceUnavailable", "message": message});
        }
    }
    json!({"apiVersion": API_VERSION, "kind": KIND, "response": response})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reviews_of_this_version_are_read() {
        let error = |body: &str| read(body.as_bytes()).unwrap_err();
        assert!(error("{").starts_with("this is no AdmissionReview"));
        assert!(error("[1]").starts_with("this is no AdmissionReview"));
        assert!(
            error(r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview"}"#)
                .contains("v1beta1")
        );
        assert!(
            error(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#).contains("no request")
        );
        let deep = format!("{{\"request\":{{\"object\":{}", "[".repeat(100_000));
        assert!(error(&deep).contains("recursion"));
    }

    #[test]
    fn a_patch_is_answered_in_base64() {
        let patch = json_patch::diff(&json!({}), &json!({"a": 1}));
        let answer = answer("u", &Verdict::Patched(patch));
        assert_eq!(answer["response"]["patch"], "W3sib3AiOiJhZGQiLCJwYXRoIjoiL2EiLCJ2YWx1ZSI6MX1d");
    }
}
