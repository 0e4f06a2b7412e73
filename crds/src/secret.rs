//! `Secret`: a value that control planes use and nobody reads back, such as the key of a certificate authority.
//!
//! It stays where users write it (global, or a standalone control plane): no zone gets a copy. On Kubernetes the
//! cluster's own Secrets take its place.

use std::fmt;

use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::default_mesh;

/// A value that is written and never shown.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ursamesh.io",
    version = "v1alpha1",
    kind = "Secret",
    plural = "secrets",
    namespaced,
    category = "ursa",
    doc = "A value that control planes use and nobody reads back.",
    printcolumn(name = "Mesh", type_ = "string", json_path = ".spec.mesh"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase")]
pub struct SecretSpec {
    /// The mesh that may use it.
    #[serde(default = "default_mesh")]
    #[schemars(length(min = 1, max = 63))]
    pub mesh: String,
    /// The value, such as a certificate or key in PEM. Write-only.
    #[schemars(extend("writeOnly" = true))]
    pub value: SecretValue,
}

/// A text that no log and no answer shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SecretValue(String);

impl SecretValue {
    /// A secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for whoever uses it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
