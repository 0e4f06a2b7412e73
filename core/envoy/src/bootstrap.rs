//! Envoy's bootstrap: everything comes over one delta ADS stream from the agent's Unix socket, and
//! access logs go there.
//! Source: <https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/bootstrap/v3/bootstrap.proto>.

use std::path::PathBuf;

use serde_json::json;

use crate::zone_ingresses;

/// The static cluster that stands for the agent.
pub(crate) const AGENT_CLUSTER: &str = "ursa-agent";

/// What differs between two proxies' bootstraps.
#[derive(Clone, Debug)]
pub struct BootstrapSettings {
    /// The node id, `<mesh>/<name>`.
    pub node_id: String,
    /// The agent's ADS socket.
    pub agent_socket: PathBuf,
    /// Where Envoy's administration interface listens.
    pub admin_socket: PathBuf,
}

/// The bootstrap as JSON.
pub fn bootstrap(settings: &BootstrapSettings) -> String {
    let BootstrapSettings { node_id, agent_socket, admin_socket } = settings;
    // Each caller is bounded already where it comes in.
    let no_limits =
        json!({"max_connections": u32::MAX, "max_pending_requests": u32::MAX, "max_requests": u32::MAX});
    let ads = json!({"ads": {}, "resource_api_version": "V3"});
    let bootstrap = json!({
        "node": {"id": node_id, "cluster": node_id},
        "admin": {"address": {"pipe": {"path": admin_socket, "mode": 0o600}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": AGENT_CLUSTER}}],
                // It names all of Envoy's extensions: 61 KB beside each acknowledgement.
                "set_node_on_first_message_only": true,
            },
            "cds_config": ads,
            "lds_config": ads,
        },
        "bootstrap_extensions": [{
            "name": "envoy.bootstrap.internal_listener",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
            },
        }],
        "static_resources": {"listeners": [zone_ingresses::static_listener()], "clusters": [{
            "name": AGENT_CLUSTER,
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                },
            },
            "load_assignment": {
                "cluster_name": AGENT_CLUSTER,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": agent_socket}}}}]}],
            },
        }, zone_ingresses::static_cluster(&no_limits)]},
        // Without a bound Envoy warns at each start; a host that serves more sets its own.
        "overload_manager": {"resource_monitors": [{
            "name": "envoy.resource_monitors.global_downstream_max_connections",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                "max_active_downstream_connections": 50_000,
            },
        }]},
    });
    serde_json::to_string_pretty(&bootstrap).expect("a JSON value serializes")
}
