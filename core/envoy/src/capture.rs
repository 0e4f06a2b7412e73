//! Captured traffic: the kernel sends all of it to two listeners, which hand each connection to the listener of the address
//! that it was meant for. Here is what becomes of the rest.
//! Source: <https://www.envoyproxy.io/docs/envoy/latest/configuration/listeners/listener_filters/original_dst_filter>.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy};
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{BindConfig, CidrRange, SocketAddress, TrafficDirection};
use envoy_types::pb::envoy::config::listener::v3::{
    FilterChain, FilterChainMatch, Listener, ListenerFilter, listener_filter,
};
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use envoy_types::pb::google::protobuf::Any;
use serde::Serialize;
use ursa_model::{Capture, VIRTUAL_ADDRESSES};

use crate::listener::{self, NOWHERE};
use crate::pack::{any, bool_value, duration, uint};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// From where the workload sees what its proxy hands over; the kernel does not capture that again.
const DELIVERY: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)), IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6))];

/// Whose traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Side {
    /// What the workload is sent.
    Inbound,
    /// What the workload sends.
    Outbound,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Of the Internet protocol: 4 or 6.
pub(crate) fn families(capture: &Capture) -> impl Iterator<Item = u8> + use<> {
    [Some(4), capture.ipv6.then_some(6)].into_iter().flatten()
}

pub(crate) fn cluster(family: u8, side: Side) -> String {
    format!("passthrough:{}:{family}", side.name())
}

pub(crate) fn listener_name(family: u8, side: Side) -> String {
    format!("capture:{}:{family}", side.name())
}

/// Where a connection was going anyway.
pub(crate) fn passthrough(name: &str, family: u8, side: Side) -> Any {
    any(Cluster {
        name: name.to_owned(),
        connect_timeout: duration(CONNECT_TIMEOUT),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into())),
        lb_policy: LbPolicy::ClusterProvided.into(),
        upstream_bind_config: (side == Side::Inbound).then(|| delivery(family == 6)),
        ..Default::default()
    })
}

/// Makes a proxy's connections to its own workload recognisable to the kernel.
pub(crate) fn delivery(ipv6: bool) -> BindConfig {
    BindConfig {
        source_address: Some(SocketAddress {
            address: DELIVERY[usize::from(ipv6)].to_string(),
            port_specifier: Some(PortSpecifier::PortValue(0)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Takes every captured connection; what no other listener is for is passed through or closed.
pub(crate) fn listener(name: &str, family: u8, side: Side, capture: &Capture) -> Any {
    let (port, passes, direction) = match side {
        Side::Inbound => (capture.inbound_port, capture.unknown_inbound, TrafficDirection::Inbound),
        Side::Outbound => (capture.outbound_port, capture.unknown_outbound, TrafficDirection::Outbound),
    };
    // What the workload sends is redirected to loopback, what it is sent to the address that it came to.
    let address: IpAddr = match (side, family) {
        (Side::Inbound, 4) => Ipv4Addr::UNSPECIFIED.into(),
        (Side::Inbound, _) => Ipv6Addr::UNSPECIFIED.into(),
        (Side::Outbound, 4) => Ipv4Addr::LOCALHOST.into(),
        (Side::Outbound, _) => Ipv6Addr::LOCALHOST.into(),
    };
    let target = if passes { cluster(family, side) } else { NOWHERE.to_owned() };
    // Who calls the proxy's own port was not captured: passed through, it would come back forever.
    let own_port = FilterChainMatch { destination_port: uint(port.into()), ..Default::default() };
    let mut chains = vec![chain("own-port", Some(own_port), NOWHERE)];
    if side == Side::Outbound {
        let (range, bits) = VIRTUAL_ADDRESSES[usize::from(family == 6)];
        let prefix_ranges =
            vec![CidrRange { address_prefix: range.to_string(), prefix_len: uint(bits.into()) }];
        let virtual_address = FilterChainMatch { prefix_ranges, ..Default::default() };
        chains.push(chain("virtual-address", Some(virtual_address), NOWHERE));
    }
    any(Listener {
        use_original_dst: bool_value(true),
        listener_filters: vec![ListenerFilter {
            name: "envoy.filters.listener.original_dst".into(),
            config_type: Some(listener_filter::ConfigType::TypedConfig(any(OriginalDst::default()))),
            ..Default::default()
        }],
        default_filter_chain: Some(chain("rest", None, &target)),
        ..listener::listener(name, address, port, direction, chains)
    })
}

fn chain(name: &str, filter_chain_match: Option<FilterChainMatch>, cluster: &str) -> FilterChain {
    FilterChain {
        name: name.to_owned(),
        filter_chain_match,
        filters: vec![listener::tcp_proxy(name, ClusterSpecifier::Cluster(cluster.to_owned()), 1, None)],
        ..Default::default()
    }
}
