//! Resources that are applied.

use serde_json::{Value, json};

use crate::plan::{MESH, SERVICE};

/// The path of a mesh in the REST API.
pub fn mesh_path(mesh: &str) -> String {
    format!("/meshes/{mesh}")
}

/// The path of the permission that changes.
pub fn permission_path(mesh: &str) -> String {
    format!("/meshes/{mesh}/trafficpermissions/everybody")
}

/// The path of the route that changes.
pub fn route_path() -> String {
    format!("/meshes/{MESH}/trafficroutes/bench")
}

/// A mesh with mutual TLS.
pub fn mesh() -> Value {
    let mtls = json!({"enabledBackend": "ca-1", "backends": [{"name": "ca-1", "type": "Builtin"}]});
    object("Mesh", json!({"mtls": mtls}))
}

/// A service, or everybody (`*`), may call all.
pub fn permission(source: &str) -> Value {
    object("TrafficPermission", json!({"sources": service(source), "destinations": service("*")}))
}

/// How those who call [`SERVICE`] choose an instance.
pub fn route(balancer: &str) -> Value {
    let split = json!([{"weight": 1, "destination": {"ursamesh.io/service": SERVICE}}]);
    let conf = json!({"split": split, "loadBalancer": {"type": balancer}});
    let sources = service("*");
    object("TrafficRoute", json!({"sources": sources, "destinations": service(SERVICE), "conf": conf}))
}

/// A permission of one service to call another.
pub fn permission_between(from: &str, to: &str) -> Value {
    object("TrafficPermission", json!({"sources": service(from), "destinations": service(to)}))
}

/// A route from one service to another.
pub fn route_between(from: &str, to: &str) -> Value {
    let conf = json!({"split": [{"weight": 1, "destination": {"ursamesh.io/service": to}}]});
    object("TrafficRoute", json!({"sources": service(from), "destinations": service(to), "conf": conf}))
}

fn service(name: &str) -> Value {
    json!([{"match": {"ursamesh.io/service": name}}])
}

fn object(kind: &str, spec: Value) -> Value {
    json!({"apiVersion": "ursamesh.io/v1alpha1", "kind": kind, "spec": spec})
}
