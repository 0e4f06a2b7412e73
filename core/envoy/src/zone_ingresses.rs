//! The way to instances in other zones. An ingress has one address for all that is behind it, and Envoy counts equal addresses
//! of one cluster once; so each instance gets an internal address of its own, at a listener of the proxy itself that goes on to
//! the ingress (the bootstrap has it), and a server name of its own, by which the ingress chooses.
//! Source: <https://www.envoyproxy.io/docs/envoy/latest/configuration/other_features/internal_listener>.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use envoy_types::pb::envoy::config::core::v3::envoy_internal_address::AddressNameSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    Address, EnvoyInternalAddress, Metadata, TransportSocket, address, transport_socket,
};
use envoy_types::pb::envoy::extensions::transport_sockets::internal_upstream::v3::InternalUpstreamTransport;
use envoy_types::pb::envoy::extensions::transport_sockets::internal_upstream::v3::internal_upstream_transport::MetadataValueSource;
use envoy_types::pb::envoy::r#type::metadata::v3::{MetadataKind, metadata_kind};
use envoy_types::pb::google::protobuf::{Struct, Value, value};
use serde_json::json;

use crate::pack::any;

/// The internal listener, and the cluster of what it connects to.
const NAME: &str = "zone-ingresses";

/// At one address may be several replicas of an ingress: where one has just ended, the next attempt finds another.
const CONNECT_ATTEMPTS: u32 = 4;

/// By this name the listener filter finds where to go on to.
const ORIGINAL_DST: &str = "envoy.filters.listener.original_dst";

/// The internal listener as the bootstrap has it.
pub(crate) fn static_listener() -> serde_json::Value {
    json!({
        "name": NAME,
        "internal_listener": {},
        "listener_filters": [{
            "name": ORIGINAL_DST,
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst"},
        }],
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": NAME,
                "cluster": NAME,
                "max_connect_attempts": CONNECT_ATTEMPTS,
            },
        }]}],
    })
}

/// The cluster behind it as the bootstrap has it.
pub(crate) fn static_cluster(no_limits: &serde_json::Value) -> serde_json::Value {
    json!({
        "name": NAME,
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": [no_limits]},
    })
}

/// Of one of the instances behind an ingress.
pub(crate) fn address(ingress: IpAddr, port: u16, instance: u32) -> Address {
    let ingress = SocketAddr::new(ingress, port);
    Address {
        address: Some(address::Address::EnvoyInternalAddress(EnvoyInternalAddress {
            address_name_specifier: Some(AddressNameSpecifier::ServerListenerName(NAME.to_owned())),
            endpoint_id: format!("{ingress}/{instance}"),
        })),
    }
}

/// Says where to go on to.
pub(crate) fn metadata(ingress: IpAddr, port: u16) -> Metadata {
    text_metadata(ORIGINAL_DST, "local", SocketAddr::new(ingress, port).to_string())
}

/// One text under a filter's name.
pub(crate) fn text_metadata(filter: &str, key: &str, text: String) -> Metadata {
    let value = Value { kind: Some(value::Kind::StringValue(text)) };
    let fields = Struct { fields: [(key.to_owned(), value)].into() };
    Metadata { filter_metadata: HashMap::from([(filter.to_owned(), fields)]), ..Default::default() }
}

/// A transport that can go this way, and is the same for all that does not.
pub(crate) fn through(transport: Option<TransportSocket>) -> TransportSocket {
    let host = MetadataKind { kind: Some(metadata_kind::Kind::Host(metadata_kind::Host {})) };
    let source = MetadataValueSource { kind: Some(host), name: ORIGINAL_DST.to_owned() };
    let internal =
        InternalUpstreamTransport { passthrough_metadata: vec![source], transport_socket: transport };
    TransportSocket {
        name: "envoy.transport_sockets.internal_upstream".into(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(internal))),
    }
}
