//! The parts of a `ControlPlane`'s specification.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The zone of a control plane, and how it reaches global.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZoneMembership {
    /// The zone's name: a DNS label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: Option<String>,
    /// Where the global control plane takes zones: `https://HOST:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300), regex(pattern = "^https://[^/\\s]+:[0-9]{1,5}$"))]
    pub global_address: Option<String>,
    /// The Secret of the namespace with the zone's token under the key `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_secret_ref: Option<LocalRef>,
    /// The Secret of the namespace whose key `ca.crt` holds what global's certificate is trusted by; that of
    /// `credentialSecretRef` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_ca_secret_ref: Option<LocalRef>,
}

/// An object of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Where resources are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreSpec {
    /// The sort of store.
    #[serde(default, rename = "type")]
    pub store_type: StoreType,
}

/// The sort of store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StoreType {
    /// The API server of the cluster.
    #[default]
    Kubernetes,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// At each start.
    Always,
    /// If the node has none.
    IfNotPresent,
    /// Not at all: the node must have it.
    Never,
}

impl PullPolicy {
    /// As Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// What a container asks for and may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Resources {
    /// What is set aside for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub requests: BTreeMap<String, Amount>,
    /// What it cannot exceed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub limits: BTreeMap<String, Amount>,
}

impl Resources {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.limits.is_empty()
    }

    /// As a container has it.
    pub fn requirements(&self) -> ResourceRequirements {
        let side = |amounts: &BTreeMap<String, Amount>| {
            let quantities = amounts.iter().map(|(name, amount)| (name.clone(), amount.quantity()));
            (!amounts.is_empty()).then(|| quantities.collect())
        };
        ResourceRequirements { requests: side(&self.requests), limits: side(&self.limits), claims: None }
    }
}

/// An amount as Kubernetes writes it: `1`, `100m`, `128Mi`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Amount {
    /// A whole number.
    Number(i64),
    /// With a fraction or a suffix.
    Text(String),
}

impl Amount {
    /// As Kubernetes' type.
    pub fn quantity(&self) -> Quantity {
        Quantity(match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        })
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An amount: 1, 100m, 128Mi.",
            "x-kubernetes-int-or-string": true,
            "maxLength": 32,
            "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$",
        })
    }
}

/// How the control plane is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceSpec {
    /// The type of the Service.
    #[serde(default, rename = "type")]
    pub service_type: ServiceType,
    /// Its annotations, which cloud providers read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
}

/// The type of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Reached from the cluster only.
    #[default]
    ClusterIP,
    /// At a port of every node.
    NodePort,
    /// By a load balancer of the cloud.
    LoadBalancer,
}

impl ServiceType {
    /// As Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// The sidecars that pods get.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SidecarSpec {
    /// How they run in the pod.
    #[serde(default)]
    pub mode: SidecarRunMode,
    /// What one may use; the webhook's own choice if left out.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// What they log.
    #[serde(default)]
    pub log_level: LogLevel,
}

/// How a sidecar runs in its pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SidecarRunMode {
    /// An init container that goes on: it starts before all others and ends after them.
    #[default]
    Native,
    /// A container beside the others, for clusters before Kubernetes 1.29. Init containers run before it.
    Container,
}

/// What is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what may fail.
    Warn,
    /// And what happens now and then.
    #[default]
    Info,
    /// And what is done.
    Debug,
    /// And each step of it.
    Trace,
}

impl LogLevel {
    /// As resources spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The webhook that puts sidecars into pods and validates resources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookSpec {
    /// How many replicas serve. While none does, pods that should get a sidecar are not created.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 9))]
    pub replicas: i32,
    /// What a replica may use; 50m CPU and 64Mi of memory are requested if left out.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// What the API server does while no replica answers.
    #[serde(default)]
    pub failure_policy: FailurePolicy,
}

const fn two() -> i32 {
    2
}

impl Default for WebhookSpec {
    fn default() -> Self {
        Self { replicas: two(), resources: Resources::default(), failure_policy: FailurePolicy::default() }
    }
}

/// What the API server does while a webhook does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailurePolicy {
    /// Refuses what it would have asked the webhook about.
    #[default]
    Fail,
    /// Goes on without: pods are created outside the mesh.
    Ignore,
}

impl FailurePolicy {
    /// As Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "Fail",
            Self::Ignore => "Ignore",
        }
    }
}

/// Where the certificates of control plane and webhook come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(self.issuer == 'CertManager') == has(self.issuerRef)",
    "message": "issuerRef names the issuer of CertManager, and is for it only"
}]))]
pub struct TlsSpec {
    /// Who issues them.
    #[serde(default)]
    pub issuer: CertIssuer,
    /// cert-manager's issuer. Its certificates must come with `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerRef>,
    /// Further DNS names and IP addresses by which zones and users outside the cluster reach the control plane: its
    /// certificate has them beside the Service's names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 253), regex(pattern = "^[0-9A-Za-z:.*-]+$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub names: Vec<String>,
}

/// Who issues certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CertIssuer {
    /// The operator, by an authority of its own, which it renews.
    #[default]
    SelfSigned,
    /// cert-manager: the operator only writes its Certificates.
    CertManager,
}

/// An issuer of cert-manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IssuerRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// `Issuer` or `ClusterIssuer`, or the kind of an external one.
    #[serde(default = "issuer")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Its API group.
    #[serde(default = "cert_manager")]
    #[schemars(length(min = 1, max = 253))]
    pub group: String,
}

fn issuer() -> String {
    "Issuer".to_owned()
}

fn cert_manager() -> String {
    "cert-manager.io".to_owned()
}
