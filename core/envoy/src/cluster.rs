//! Clusters: destinations in the mesh, and the application beside the proxy.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, EdsClusterConfig, LbConfig, LbPolicy,
    RingHashLbConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::{CircuitBreakers, Cluster};
use envoy_types::pb::envoy::config::core::v3::{Http1ProtocolOptions, Http2ProtocolOptions};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions,
};
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::{Any, UInt64Value};
use ursa_model::{Balancer, Destination, Protocol};

use crate::pack::{ads, any, duration, socket_address, transport_socket, uint};
use crate::{capture, tls, zone_ingresses};

/// Long enough for another continent, short enough for a second attempt while a caller waits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

fn protocol_options(protocol: Protocol) -> HashMap<String, Any> {
    let config = match protocol {
        Protocol::Tcp => return HashMap::new(),
        Protocol::Http => ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default()),
        Protocol::Http2 => ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default()),
    };
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(config),
        })),
        ..Default::default()
    };
    HashMap::from([(HTTP_OPTIONS.to_owned(), any(options))])
}

/// A cluster whose endpoints come by EDS under its own name.
fn eds_cluster(name: &str) -> Cluster {
    Cluster {
        name: name.to_owned(),
        connect_timeout: duration(CONNECT_TIMEOUT),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(ads()), ..Default::default() }),
        common_lb_config: Some(CommonLbConfig {
            // Spreading over instances that are known to be down helps nobody.
            healthy_panic_threshold: Some(Percent { value: 0.0 }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Envoy's own limits are for others than a mesh: three retries at a time are too few when an instance stops.
fn no_limits() -> CircuitBreakers {
    let limit = uint(u32::MAX);
    let thresholds = Thresholds {
        max_connections: limit,
        max_pending_requests: limit,
        max_requests: limit,
        max_retries: limit,
        ..Default::default()
    };
    CircuitBreakers { thresholds: vec![thresholds], ..Default::default() }
}

/// A subset of a service.
pub(crate) fn destination(name: &str, destination: &Destination, peers_secret: &str) -> Any {
    let lb_policy = match destination.balancer {
        Balancer::RoundRobin => LbPolicy::RoundRobin,
        Balancer::LeastRequest => LbPolicy::LeastRequest,
        Balancer::Random => LbPolicy::Random,
    };
    let transport = destination.tls.as_ref().map(|_| {
        zone_ingresses::through(transport_socket(tls::upstream(peers_secret, destination.id.sni())))
    });
    any(Cluster {
        lb_policy: lb_policy.into(),
        circuit_breakers: Some(no_limits()),
        typed_extension_protocol_options: protocol_options(destination.protocol),
        transport_socket: transport,
        ..eds_cluster(name)
    })
}

/// What a zone ingress passes on: TLS goes through as it is, to the instance that the client names: the one at that place of the
/// ring, or while there is none the next.
pub(crate) fn ingress(name: &str) -> Any {
    let ring = RingHashLbConfig { minimum_ring_size: Some(UInt64Value { value: 1 }), ..Default::default() };
    any(Cluster {
        lb_policy: LbPolicy::RingHash.into(),
        lb_config: Some(LbConfig::RingHashLbConfig(ring)),
        circuit_breakers: Some(no_limits()),
        ..eds_cluster(name)
    })
}

/// The application beside the proxy.
pub(crate) fn application(name: &str, address: IpAddr, port: u16, protocol: Protocol, captured: bool) -> Any {
    let endpoint = LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(socket_address(address, port)),
            ..Default::default()
        })),
        ..Default::default()
    };
    any(Cluster {
        name: name.to_owned(),
        connect_timeout: duration(CONNECT_TIMEOUT),
        circuit_breakers: Some(no_limits()),
        upstream_bind_config: captured.then(|| capture::delivery(address.is_ipv6())),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..Default::default() }],
            ..Default::default()
        }),
        typed_extension_protocol_options: protocol_options(protocol),
        ..Default::default()
    })
}
