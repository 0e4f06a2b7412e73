//! The resources that the demo's agents register, as an operator of virtual machines would write them.

use serde_json::{Value, json};

use crate::topology::{Redis, Zone};

/// The mesh that the demo uses: it exists from the first start.
pub const MESH: &str = "default";

/// What an agent registers.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The resource's name, unique in the demo.
    pub name: String,
    /// Who the agent's token is for.
    pub role: Role,
    /// The resource.
    pub resource: Value,
}

/// Who a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A dataplane of the mesh that serves this service.
    Dataplane(&'static str),
    /// The zone's ingress, of no mesh.
    Ingress,
}

impl Role {
    /// As `ursa-dp` calls it.
    pub fn proxy_type(self) -> &'static str {
        match self {
            Self::Dataplane(_) => "dataplane",
            Self::Ingress => "ingress",
        }
    }
}

/// A zone's counter application.
pub fn demo_app(zone: &Zone) -> Workload {
    let inbound = json!({
        "port": zone.app_inbound().port(),
        "serviceAddress": zone.app().ip(),
        "servicePort": zone.app().port(),
        "tags": {"ursamesh.io/service": "demo-app", "ursamesh.io/protocol": "http", "version": "v1"},
        "readinessProbe": {"http": {"path": "/healthz"}},
    });
    let outbound = json!({
        "address": zone.app_to_redis().ip(),
        "port": zone.app_to_redis().port(),
        "tags": {"ursamesh.io/service": "redis"},
    });
    let networking = json!({
        "address": zone.app_inbound().ip(),
        "inbound": [inbound],
        "outbound": [outbound],
    });
    dataplane(format!("demo-app-{}", zone.name), "demo-app", &networking)
}

/// A Redis.
pub fn redis(redis: &Redis) -> Workload {
    let inbound = json!({
        "port": redis.inbound().port(),
        "serviceAddress": redis.server().ip(),
        "servicePort": redis.server().port(),
        "tags": {"ursamesh.io/service": "redis", "ursamesh.io/protocol": "tcp", "version": redis.version},
        "readinessProbe": {"tcp": {}},
    });
    dataplane(redis.name.clone(), "redis", &json!({"address": redis.host, "inbound": [inbound]}))
}

/// A zone's ingress.
pub fn ingress(zone: &Zone) -> Workload {
    let name = format!("ingress-{}", zone.name);
    let networking = json!({"address": zone.ingress().ip(), "port": zone.ingress().port()});
    let resource = json!({
        "apiVersion": "ursamesh.io/v1alpha1",
        "kind": "ZoneIngress",
        "metadata": {"name": name},
        "spec": {"networking": networking},
    });
    Workload { name, role: Role::Ingress, resource }
}

fn dataplane(name: String, service: &'static str, networking: &Value) -> Workload {
    let resource = json!({
        "apiVersion": "ursamesh.io/v1alpha1",
        "kind": "Dataplane",
        "metadata": {"name": name},
        "spec": {"mesh": MESH, "networking": networking},
    });
    Workload { name, role: Role::Dataplane(service), resource }
}
