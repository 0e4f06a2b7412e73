//! Resources as a user writes them.

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

/// The mesh `default` with mutual TLS by a builtin authority.
pub const MTLS: &str = "
apiVersion: ursamesh.io/v1alpha1
kind: Mesh
metadata: {name: default}
spec:
  mtls:
    enabledBackend: ca-1
    backends: [{name: ca-1, type: Builtin}]
";

/// Selects everybody.
pub const ANYBODY: &str = "ursamesh.io/service: '*'";

/// A permission for sources with these tags (`KEY: VALUE`), to every service.
pub fn permission(name: &str, action: &str, source: &str) -> String {
    format!(
        "
apiVersion: ursamesh.io/v1alpha1
kind: TrafficPermission
metadata: {{name: {name}}}
spec:
  action: {action}
  sources: [{{match: {{{source}}}}}]
  destinations: [{{match: {{ursamesh.io/service: '*'}}}}]
"
    )
}

/// A company's root: certificate and key, PEM.
pub fn corp_root() -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "Corp");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// How calls of `client` to `server` are split: parts, as a route has them.
pub fn route(split: &str) -> String {
    format!(
        "
apiVersion: ursamesh.io/v1alpha1
kind: TrafficRoute
metadata: {{name: server}}
spec:
  sources: [{{match: {{ursamesh.io/service: client}}}}]
  destinations: [{{match: {{ursamesh.io/service: server}}}}]
  conf:
    split: [{split}]
"
    )
}

/// A Secret with this value.
pub fn secret(name: &str, value: &str) -> String {
    let value = serde_json::json!(value);
    format!(
        "apiVersion: ursamesh.io/v1alpha1\nkind: Secret\nmetadata: {{name: {name}}}\nspec: {{value: {value}}}\n"
    )
}
