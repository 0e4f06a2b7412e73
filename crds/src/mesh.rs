//! `Mesh`: a tenant with its own certificate authorities, identities, policies and services.

use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, RevokedToken};

/// A tenant: meshes never see one another. Mutual TLS for all its traffic is one field away.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ursamesh.io",
    version = "v1alpha1",
    kind = "Mesh",
    plural = "meshes",
    category = "ursa",
    status = "crate::PolicyStatus",
    doc = "A tenant of the service mesh with its own certificate authorities, identities, policies and services.",
    printcolumn(name = "mTLS", type_ = "string", json_path = ".spec.mtls.enabledBackend"),
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
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Programmed')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase")]
pub struct MeshSpec {
    /// Mutual TLS between all workloads of the mesh; without it traffic is plaintext and stays in its zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<Mtls>,
    /// How traffic is spread where no `TrafficRoute` says otherwise.
    #[serde(default)]
    pub routing: Routing,
    /// What becomes of traffic that is not for the mesh.
    #[serde(default)]
    pub networking: MeshNetworking,
    /// Who may join the mesh; everybody if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<Members>,
    /// Who may carry a name of a service that is not `<service>.<own namespace>`, such as `redis`. Virtual machines carry what
    /// their tokens say; a name that is listed here is refused to them in zones that it does not list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub services: Vec<GrantedService>,
    /// Which tags are part of workloads' identities, so that permissions may select sources by them, and who may carry them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["key"]))]
    pub identity_tags: Vec<IdentityTag>,
    /// Data-plane tokens that are not taken any more, in no zone, nor certificates that were signed on them: streams of who came
    /// with one end at once, and its endpoints leave. `ursactl revoke dataplane-token` writes it. Who replaces the mesh by the REST
    /// API and leaves this out changes nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub revoked_tokens: Option<Vec<RevokedToken>>,
}

impl MeshSpec {
    /// What is known of a token that was revoked; `None` if it was not.
    pub fn revoked_token(&self, id: &str) -> Option<&RevokedToken> {
        self.revoked_tokens.iter().flatten().find(|token| token.id == id)
    }

    /// The certificate authority in force, if mutual TLS is on.
    pub fn enabled_backend(&self) -> Option<&CaBackend> {
        let mtls = self.mtls.as_ref()?;
        let enabled = mtls.enabled_backend.as_deref()?;
        mtls.backends.iter().find(|backend| backend.name == enabled)
    }
}

/// Who may join a mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Members {
    /// Namespaces whose pods may; all if left out or empty. Virtual machines have none, and are not judged by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub namespaces: Vec<String>,
    /// Zones whose workloads may; all if left out or empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub zones: Vec<String>,
}

/// Who may carry the name of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantedService {
    /// The service's name in the mesh.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[A-Za-z0-9._-]+$"))]
    pub name: String,
    /// Namespaces whose pods may; all if left out or empty. Virtual machines have none, and are not judged by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub namespaces: Vec<String>,
    /// Zones whose workloads may; all if left out or empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub zones: Vec<String>,
}

/// A tag that is part of workloads' identities, and who may carry it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!self.key.startsWith('ursamesh.io/')",
    "message": "service, zone and namespace are part of each identity, and other tags of ursamesh.io never are"
}]))]
pub struct IdentityTag {
    /// The tag's key.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// Namespaces whose pods may; all if left out or empty. Virtual machines have none; their tokens say what they carry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub namespaces: Vec<String>,
    /// Zones whose workloads may; all if left out or empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub zones: Vec<String>,
}

/// What becomes of traffic that is not for the mesh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshNetworking {
    /// What workloads send.
    #[serde(default)]
    pub outbound: MeshOutbound,
}

/// What workloads send.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshOutbound {
    /// Whether workloads whose traffic is captured reach addresses that are not of the mesh; true if left out. Addresses
    /// that stand for services of the mesh are never passed through.
    #[serde(default = "yes")]
    pub passthrough: bool,
}

const fn yes() -> bool {
    true
}

impl Default for MeshOutbound {
    fn default() -> Self {
        Self { passthrough: yes() }
    }
}

/// Mutual TLS of a mesh.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.enabledBackend) || self.backends.exists(b, b.name == self.enabledBackend)",
    "message": "enabledBackend must be the name of one of the backends"
}]))]
pub struct Mtls {
    /// The name of the backend that signs; leave it out to turn mutual TLS off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled_backend: Option<String>,
    /// What an inbound accepts.
    #[serde(default)]
    pub mode: MtlsMode,
    /// Certificate authorities by name.
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub backends: Vec<CaBackend>,
}

/// What an inbound accepts once mutual TLS is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MtlsMode {
    /// Mutual TLS only.
    #[default]
    Strict,
    /// Plaintext too, which no permission judges: for the time in which workloads come into the mesh one by one.
    Permissive,
}

/// A certificate authority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(self.type == 'Provided') == has(self.conf)",
    "message": "conf names the secrets of a Provided authority, and of no other"
}]))]
pub struct CaBackend {
    /// The backend's name in the mesh.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Where the authority comes from.
    #[serde(rename = "type")]
    pub ca_type: CaType,
    /// Where the certificate and key of a `Provided` authority are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conf: Option<ProvidedConf>,
    /// The certificates that workloads get.
    #[serde(default)]
    pub dp_cert: DpCert,
}

/// Where a certificate authority comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CaType {
    /// Each zone makes a root of its own; the key never leaves the zone.
    Builtin,
    /// The user's own root; each zone makes an intermediate that global signs. The root's key never leaves global.
    Provided,
}

/// Where the certificate and key of a `Provided` authority are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProvidedConf {
    /// The root's certificate, PEM. It must be allowed to sign intermediates.
    pub cert: SecretRef,
    /// Its private key, PEM (PKCS#8).
    pub key: SecretRef,
}

/// A `Secret` of the same mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub secret: String,
}

/// The certificates that workloads get.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DpCert {
    /// How long they live.
    #[serde(default)]
    pub rotation: Rotation,
}

/// How long workload certificates live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// Lifetime of a certificate; it is renewed when two thirds of it have passed. From 5s to 720h.
    #[serde(default = "default_expiration")]
    pub expiration: Duration,
}

const fn default_expiration() -> Duration {
    Duration::from_millis(24 * 3_600_000)
}

impl Default for Rotation {
    fn default() -> Self {
        Self { expiration: default_expiration() }
    }
}

/// How traffic is spread where no `TrafficRoute` says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Routing {
    /// Prefer instances of the own zone and fail over to other zones; otherwise all instances of all zones
    /// get equal shares.
    #[serde(default)]
    pub locality_aware_load_balancing: bool,
}
