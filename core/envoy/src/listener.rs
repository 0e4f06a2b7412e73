//! Listeners: inbounds, outbounds, and a zone ingress that selects by server name.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format;
use envoy_types::pb::envoy::config::core::v3::{DataSource, SubstitutionFormatString, TrafficDirection};
use envoy_types::pb::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, filter, listener_filter,
};
use envoy_types::pb::envoy::extensions::filters::common::set_filter_state::v3::{
    FilterStateValue, filter_state_value,
};
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::set_filter_state::v3::Config as SetFilterState;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    ClusterSpecifier, TcpAccessLogOptions, WeightedCluster,
};
use envoy_types::pb::envoy::r#type::v3::{HashPolicy, hash_policy};
use envoy_types::pb::google::protobuf::{Any, BoolValue};
use ursa_model::{Inbound, Outbound, Protocol};

use crate::access_log::{self, Transport};
use crate::pack::{any, bool_value, duration, socket_address, transport_socket, uint};
use crate::{http, tls};

/// Attempts to connect, each to an instance that the balancer chooses anew.
const CONNECT_ATTEMPTS: u32 = 3;

/// A cluster that no proxy has: connections to it are closed.
pub(crate) const NOWHERE: &str = "nowhere";

const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";

/// How long a client may take over its handshake.
const HANDSHAKE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// How long a client may take to begin. A peer of the mesh begins at once; from outside, one may wait for the server to
/// speak first.
const HELLO_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

/// How long a client may take to say which server it wants.
const SNI_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Captured ones do not bind their address: they are chosen by where a captured connection was going.
pub(crate) fn inbound(
    name: &str,
    inbound: &Inbound,
    app_cluster: &str,
    callers_secret: &str,
    captured: bool,
) -> Any {
    let to_app = |stat_prefix: &str, log: Option<Transport>| {
        let log = log.map(|transport| access_log::tcp(name, transport));
        tcp_proxy(stat_prefix, ClusterSpecifier::Cluster(app_cluster.to_owned()), 1, log)
    };
    let filter = |stat_prefix: &str, authenticated, log: Option<Transport>| match inbound.protocol {
        Protocol::Tcp => to_app(stat_prefix, log),
        protocol => {
            let log = log.map(|transport| access_log::http(name, transport));
            http::inbound_manager(stat_prefix, protocol, authenticated, log)
        }
    };
    let listener = |chains| {
        let listener = listener(name, inbound.address, inbound.port, TrafficDirection::Inbound, chains);
        Listener { bind_to_port: unbound(captured), ..listener }
    };
    let Some(tls) = &inbound.tls else {
        return any(listener(vec![FilterChain {
            filters: vec![filter(name, false, None)],
            ..Default::default()
        }]));
    };
    let mut chains = vec![FilterChain {
        name: "mesh".into(),
        filter_chain_match: Some(FilterChainMatch {
            transport_protocol: "tls".into(),
            application_protocols: vec![tls::ALPN.into()],
            ..Default::default()
        }),
        filters: vec![filter(name, true, None)],
        transport_socket_connect_timeout: duration(HANDSHAKE_TIMEOUT),
        transport_socket: transport_socket(tls::downstream(callers_secret)),
        ..Default::default()
    }];
    let mut default_filter_chain = None;
    if tls.permissive {
        let strangers = strangers(name);
        chains.push(FilterChain {
            name: Transport::Tls.chain().into(),
            filter_chain_match: Some(FilterChainMatch {
                transport_protocol: "tls".into(),
                ..Default::default()
            }),
            filters: vec![to_app(&strangers, Some(Transport::Tls))],
            ..Default::default()
        });
        default_filter_chain = Some(FilterChain {
            name: Transport::Plaintext.chain().into(),
            filters: vec![filter(&strangers, false, Some(Transport::Plaintext))],
            ..Default::default()
        });
    }
    // Between the modes only chains differ, so that Envoy keeps the mesh's connections.
    any(Listener {
        listener_filters: vec![tls_inspector()],
        listener_filters_timeout: duration(HELLO_TIMEOUT),
        continue_on_listener_filters_timeout: true,
        default_filter_chain,
        ..listener(chains)
    })
}

/// What an inbound is called where callers from outside the mesh are concerned.
pub(crate) fn strangers(inbound: &str) -> String {
    format!("strangers:{inbound}")
}

fn tls_inspector() -> ListenerFilter {
    ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".into(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(any(TlsInspector::default()))),
        ..Default::default()
    }
}

pub(crate) fn outbound(name: &str, outbound: &Outbound, captured: bool) -> Any {
    let filter = match outbound.protocol {
        Protocol::Tcp => tcp_proxy(name, shares(outbound), CONNECT_ATTEMPTS, None),
        protocol => http::outbound_manager(name, protocol),
    };
    let chain = FilterChain { filters: vec![filter], ..Default::default() };
    let listener = listener(name, outbound.address, outbound.port, TrafficDirection::Outbound, vec![chain]);
    any(Listener { bind_to_port: unbound(captured), ..listener })
}

/// A listener binds its address unless it is told otherwise.
fn unbound(captured: bool) -> Option<BoolValue> {
    captured.then(|| bool_value(false)).flatten()
}

/// Under which name a zone ingress keeps which instance a connection is for.
const INSTANCE_STATE: &str = "ursa.instance";

/// The listener of a zone ingress: (SNI, cluster) pairs, each for the names of single instances below that SNI too; a connection
/// with any other SNI, or none, is closed. It is there without any pair, too: an ingress that has nothing to pass on yet
/// serves all the same.
pub(crate) fn ingress(name: &str, address: IpAddr, port: u16, routes: &[(String, String)]) -> Any {
    let mut chains: Vec<FilterChain> = routes
        .iter()
        .map(|(sni, cluster)| FilterChain {
            name: sni.clone(),
            filter_chain_match: Some(FilterChainMatch {
                server_names: vec![sni.clone(), format!("*.{sni}")],
                transport_protocol: "tls".into(),
                ..Default::default()
            }),
            filters: vec![instance_state(), to_instance(name, cluster)],
            ..Default::default()
        })
        .collect();
    if chains.is_empty() {
        // Envoy takes no listener without a filter chain.
        let nowhere = tcp_proxy(name, ClusterSpecifier::Cluster(NOWHERE.to_owned()), CONNECT_ATTEMPTS, None);
        chains.push(FilterChain { filters: vec![nowhere], ..Default::default() });
    }
    any(Listener {
        listener_filters: vec![tls_inspector()],
        listener_filters_timeout: duration(SNI_TIMEOUT),
        ..listener(name, address, port, TrafficDirection::Unspecified, chains)
    })
}

/// Keeps the server name as a hash ring writes the first place of a host: the host's key, and the place's number.
fn instance_state() -> Filter {
    let name = "%REQUESTED_SERVER_NAME%_0".to_owned();
    let text = DataSource { specifier: Some(Specifier::InlineString(name)), ..Default::default() };
    let value =
        SubstitutionFormatString { format: Some(Format::TextFormatSource(text)), ..Default::default() };
    let set = FilterStateValue {
        key: Some(filter_state_value::Key::ObjectKey(INSTANCE_STATE.to_owned())),
        factory_key: "envoy.hashable_string".into(),
        value: Some(filter_state_value::Value::FormatString(value)),
        ..Default::default()
    };
    let config = SetFilterState { on_new_connection: vec![set], ..Default::default() };
    network_filter("envoy.filters.network.set_filter_state", any(config))
}

fn to_instance(stat_prefix: &str, cluster: &str) -> Filter {
    let state = hash_policy::FilterState { key: INSTANCE_STATE.to_owned() };
    let policy = HashPolicy { policy_specifier: Some(hash_policy::PolicySpecifier::FilterState(state)) };
    let cluster = ClusterSpecifier::Cluster(cluster.to_owned());
    let proxy = TcpProxy { hash_policy: vec![policy], ..passing(stat_prefix, cluster, CONNECT_ATTEMPTS) };
    network_filter(TCP_PROXY, any(proxy))
}

pub(crate) fn listener(
    name: &str,
    address: IpAddr,
    port: u16,
    direction: TrafficDirection,
    chains: Vec<FilterChain>,
) -> Listener {
    Listener {
        name: name.to_owned(),
        address: Some(socket_address(address, port)),
        traffic_direction: direction.into(),
        filter_chains: chains,
        // One socket: a second Envoy on the same address is an error to be seen, not half of the connections lost.
        enable_reuse_port: bool_value(false),
        ..Default::default()
    }
}

fn shares(outbound: &Outbound) -> ClusterSpecifier {
    match outbound.shares.as_slice() {
        [] => ClusterSpecifier::Cluster(NOWHERE.into()),
        [only] => ClusterSpecifier::Cluster(only.destination.name()),
        shares => ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: shares
                .iter()
                .map(|share| ClusterWeight {
                    name: share.destination.name(),
                    weight: share.weight,
                    ..Default::default()
                })
                .collect(),
        }),
    }
}

/// With a log, each connection is logged when it begins.
pub(crate) fn tcp_proxy(
    stat_prefix: &str,
    cluster: ClusterSpecifier,
    attempts: u32,
    log: Option<AccessLog>,
) -> Filter {
    let at_start = TcpAccessLogOptions { flush_access_log_on_start: true, ..Default::default() };
    let proxy = TcpProxy {
        access_log_options: log.is_some().then_some(at_start),
        access_log: log.into_iter().collect(),
        ..passing(stat_prefix, cluster, attempts)
    };
    network_filter(TCP_PROXY, any(proxy))
}

fn passing(stat_prefix: &str, cluster: ClusterSpecifier, attempts: u32) -> TcpProxy {
    TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        max_connect_attempts: uint(attempts),
        cluster_specifier: Some(cluster),
        ..Default::default()
    }
}

pub(crate) fn network_filter(name: &str, config: Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) }
}
