//! Resources as a user writes them.

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
