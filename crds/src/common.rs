//! What several kinds share: tags and selectors.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Keys and values on a dataplane's inbound, or the part of them that a selector names.
pub type Tags = BTreeMap<String, String>;

/// The mesh that a resource belongs to when it names none.
pub const DEFAULT_MESH: &str = "default";

pub(crate) fn default_mesh() -> String {
    DEFAULT_MESH.to_owned()
}

/// Keys of the tags that Ursa itself reads or sets.
pub mod tag {
    /// The service that an inbound serves; what policies and routes select. Required on each inbound.
    pub const SERVICE: &str = "ursamesh.io/service";
    /// The zone of the dataplane; set by the control plane.
    pub const ZONE: &str = "ursamesh.io/zone";
    /// The application protocol of the inbound: `tcp`, `http`, `http2` or `grpc`.
    pub const PROTOCOL: &str = "ursamesh.io/protocol";
    /// The namespace of the workload.
    pub const NAMESPACE: &str = "ursamesh.io/namespace";
    /// The workload (Deployment, StatefulSet, …) behind the dataplane.
    pub const WORKLOAD: &str = "ursamesh.io/workload";
    /// The service's port at which the inbound is called; set by the control plane.
    pub const PORT: &str = "ursamesh.io/port";
    /// The name of the dataplane; set by the control plane.
    pub const INSTANCE: &str = "ursamesh.io/instance";
    /// As a selector's value: the tag has any value.
    pub const ANY: &str = "*";
}

/// Selects inbounds by their tags: every entry must match. The value `'*'` means "has any value". An empty
/// `match` selects nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Selector {
    /// Tag keys and the value that each must have; all of them must hold.
    #[serde(rename = "match")]
    pub match_tags: Tags,
}

impl Selector {
    /// A selector of these tags.
    pub fn of<K: Into<String>, V: Into<String>>(tags: impl IntoIterator<Item = (K, V)>) -> Self {
        Self { match_tags: tags.into_iter().map(|(k, v)| (k.into(), v.into())).collect() }
    }
}
