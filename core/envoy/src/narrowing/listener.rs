//! Who may connect, as an inbound's listener says it.

use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use prost::Message as _;

use crate::listener::{NOWHERE, tcp_proxy};
use crate::pack::any;
use crate::wire::Any;

/// Whether the new listener may refuse somebody whom the old one lets in: those without a certificate, or those that
/// other rules than before decide on. What cannot be read counts as narrower.
pub(super) fn narrows(old: &Any, new: &Any) -> bool {
    match (Doors::read(old), Doors::read(new)) {
        (Some(old), Some(new)) => !new.open && (old.open || old.rules != new.rules),
        _ => true,
    }
}

/// The same listener, but it ends every connection.
pub(super) fn closed(listener: &Any) -> Option<Any> {
    let listener = Listener::decode(listener.value.as_slice()).ok()?;
    let nowhere = tcp_proxy(&listener.name, ClusterSpecifier::Cluster(NOWHERE.into()), 1, None);
    Some(any(Listener {
        filter_chains: vec![FilterChain { filters: vec![nowhere], ..Default::default() }],
        default_filter_chain: None,
        listener_filters: Vec::new(),
        listener_filters_timeout: None,
        continue_on_listener_filters_timeout: false,
        ..listener
    }))
}

struct Doors {
    /// Whether those without a certificate of the mesh are let in.
    open: bool,
    /// The secrets that decide on those with one.
    rules: Vec<String>,
}

impl Doors {
    fn read(listener: &Any) -> Option<Self> {
        let listener = Listener::decode(listener.value.as_slice()).ok()?;
        let mut doors = Self { open: false, rules: Vec::new() };
        for chain in listener.filter_chains.iter().chain(&listener.default_filter_chain) {
            match &chain.transport_socket {
                Some(socket) => match socket.config_type.as_ref()? {
                    ConfigType::TypedConfig(context) => doors.rules.push(rules(context)?),
                },
                None => doors.open = true,
            }
        }
        Some(doors)
    }
}

fn rules(context: &Any) -> Option<String> {
    let context = DownstreamTlsContext::decode(context.value.as_slice()).ok()?;
    match context.common_tls_context?.validation_context_type? {
        ValidationContextType::CombinedValidationContext(combined) => {
            combined.validation_context_sds_secret_config.map(|secret| secret.name)
        }
        _ => None,
    }
}
