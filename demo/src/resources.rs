//! The Dataplane resources of the demo's workloads, as an operator of virtual machines would write them.

use serde_json::{Value, json};

use crate::topology::Zone;

/// The mesh that the demo uses: it exists from the first start.
pub const MESH: &str = "default";

/// A workload behind a proxy of its own.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The dataplane's name, unique in the mesh over all zones.
    pub name: String,
    /// The service that it serves.
    pub service: &'static str,
    /// The Dataplane resource.
    pub dataplane: Value,
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
    workload(
        zone,
        "demo-app",
        json!({"address": zone.app_inbound().ip(), "inbound": [inbound], "outbound": [outbound]}),
    )
}

/// A zone's Redis.
pub fn redis(zone: &Zone) -> Workload {
    let inbound = json!({
        "port": zone.redis_inbound().port(),
        "serviceAddress": zone.redis().ip(),
        "servicePort": zone.redis().port(),
        "tags": {"ursamesh.io/service": "redis", "ursamesh.io/protocol": "tcp", "version": "v1"},
        "readinessProbe": {"tcp": {}},
    });
    workload(zone, "redis", json!({"address": zone.redis_inbound().ip(), "inbound": [inbound]}))
}

fn workload(zone: &Zone, service: &'static str, networking: Value) -> Workload {
    let name = format!("{service}-{}", zone.name);
    let dataplane = json!({
        "apiVersion": "ursamesh.io/v1alpha1",
        "kind": "Dataplane",
        "metadata": {"name": name},
        "spec": {"mesh": MESH, "networking": networking},
    });
    Workload { name, service, dataplane }
}
