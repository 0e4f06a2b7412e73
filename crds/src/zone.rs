//! `Zone`: a zone as the global control plane knows it.

use jiff::Timestamp;
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A zone. `ursactl zone create` makes it and prints its credential; its control plane connects with that.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ursamesh.io",
    version = "v1alpha1",
    kind = "Zone",
    plural = "zones",
    category = "ursa",
    status = "crate::Status",
    doc = "A zone of the system: one failure domain with one zone control plane.",
    printcolumn(name = "Enabled", type_ = "boolean", json_path = ".spec.enabled"),
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Online')].reason"
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].reason",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase")]
pub struct ZoneSpec {
    /// Whether other zones may send traffic to this one.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Zone tokens that were issued before this are not taken any more, and the zone's stream to global ends at once if it was
    /// opened with one. In whole seconds, as tokens count. `ursactl revoke zone` writes it, `ursactl zone create` issues a token
    /// that counts. Who replaces the zone by the REST API and leaves this out changes nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(max = 40), extend("format" = "date-time"))]
    pub credentials_not_before: Option<Timestamp>,
}

impl ZoneSpec {
    /// Since when tokens count, if one that was issued at this time does not any more.
    pub fn refuses_token_of(&self, issued_at: Timestamp) -> Option<Timestamp> {
        self.credentials_not_before.filter(|not_before| issued_at < *not_before)
    }
}

const fn yes() -> bool {
    true
}

impl Default for ZoneSpec {
    fn default() -> Self {
        Self { enabled: true, credentials_not_before: None }
    }
}
