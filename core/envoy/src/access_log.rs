//! Access logs of what an inbound lets in without an identity of the mesh; they go to the agent, which counts by peer.
//!
//! Invariant: one entry a TCP connection, when it begins, and one an HTTP request, when it begins; so what is open for
//! long is seen at once.
//! Source: <https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/access_loggers/grpc/v3/als.proto>.

use std::net::IpAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use envoy_types::pb::envoy::config::accesslog::v3::{AccessLog, AccessLogFilter, LogTypeFilter, access_log};
use envoy_types::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_types::pb::envoy::config::core::v3::{ApiVersion, GrpcService, address};
use envoy_types::pb::envoy::data::accesslog::v3::{AccessLogCommon, AccessLogType};
use envoy_types::pb::envoy::extensions::access_loggers::grpc::v3::{
    CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig, TcpGrpcAccessLogConfig,
};
use envoy_types::pb::envoy::service::accesslog::v3::StreamAccessLogsMessage;
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::LogEntries;
use envoy_types::pb::google::protobuf::Any;

use crate::bootstrap::AGENT_CLUSTER;
use crate::pack::{any, duration, uint};

/// Entries wait for others this long, or until there are this many bytes of them.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);
const BUFFER_BYTES: u32 = 16 << 10;

/// How a peer without an identity of the mesh calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// In the clear.
    Plaintext,
    /// By TLS that is not the mesh's.
    Tls,
}

impl Transport {
    const ALL: [Self; 2] = [Self::Plaintext, Self::Tls];

    /// The name of an inbound's filter chain for it.
    pub(crate) fn chain(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Tls => "other-tls",
        }
    }
}

/// The log of TCP connections to an inbound.
pub(crate) fn tcp(inbound: &str, transport: Transport) -> AccessLog {
    let config = TcpGrpcAccessLogConfig { common_config: Some(common(inbound, transport)) };
    log("envoy.access_loggers.tcp_grpc", any(config), AccessLogType::TcpConnectionStart)
}

/// The log of HTTP requests to an inbound.
pub(crate) fn http(inbound: &str, transport: Transport) -> AccessLog {
    let common_config = Some(common(inbound, transport));
    let config = HttpGrpcAccessLogConfig { common_config, ..Default::default() };
    log("envoy.access_loggers.http_grpc", any(config), AccessLogType::DownstreamStart)
}

fn log(name: &str, config: Any, entries: AccessLogType) -> AccessLog {
    // Envoy makes an entry at the end, too.
    let filter = LogTypeFilter { types: vec![entries.into()], exclude: false };
    AccessLog {
        name: name.to_owned(),
        filter: Some(AccessLogFilter { filter_specifier: Some(FilterSpecifier::LogTypeFilter(filter)) }),
        config_type: Some(access_log::ConfigType::TypedConfig(config)),
    }
}

fn common(inbound: &str, transport: Transport) -> CommonGrpcAccessLogConfig {
    let agent = EnvoyGrpc { cluster_name: AGENT_CLUSTER.to_owned(), ..Default::default() };
    CommonGrpcAccessLogConfig {
        log_name: format!("{}:{inbound}", transport.chain()),
        grpc_service: Some(GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(agent)),
            ..Default::default()
        }),
        transport_api_version: ApiVersion::V3.into(),
        buffer_flush_interval: duration(FLUSH_INTERVAL),
        buffer_size_bytes: uint(BUFFER_BYTES),
        ..Default::default()
    }
}

/// Which inbound's log a message says that it begins: the inbound's port, and how its peers call. Only the first message
/// of a stream says it.
pub fn log_of(message: &StreamAccessLogsMessage) -> Option<(u16, Transport)> {
    let name = &message.identifier.as_ref()?.log_name;
    let (chain, inbound) = name.split_once(':')?;
    let transport = Transport::ALL.into_iter().find(|transport| transport.chain() == chain)?;
    let (_, port) = inbound.rsplit_once(':')?;
    Some((port.parse().ok()?, transport))
}

/// The peer of each connection or request in a message, in order. Whose it is is what the kernel says, not what a header
/// says.
pub fn peers(message: &StreamAccessLogsMessage) -> Vec<IpAddr> {
    let peer = |common: &Option<AccessLogCommon>| match common
        .as_ref()?
        .downstream_direct_remote_address
        .as_ref()?
        .address
        .as_ref()?
    {
        address::Address::SocketAddress(socket) => socket.address.parse().ok(),
        _ => None,
    };
    match &message.log_entries {
        Some(LogEntries::TcpLogs(logs)) => {
            logs.log_entry.iter().filter_map(|entry| peer(&entry.common_properties)).collect()
        }
        Some(LogEntries::HttpLogs(logs)) => {
            logs.log_entry.iter().filter_map(|entry| peer(&entry.common_properties)).collect()
        }
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::data::accesslog::v3::HttpAccessLogEntry;
    use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::{
        HttpAccessLogEntries, Identifier,
    };

    use super::*;
    use crate::pack::socket_address;

    fn named(log_name: &str) -> StreamAccessLogsMessage {
        let identifier = Identifier { log_name: log_name.to_owned(), node: None };
        StreamAccessLogsMessage { identifier: Some(identifier), log_entries: None }
    }

    #[test]
    fn a_log_s_name_says_which_inbound_and_how() {
        for transport in Transport::ALL {
            for inbound in ["inbound:10.0.0.1:8080", "inbound:fd00::1:8080"] {
                let name = common(inbound, transport).log_name;
                assert_eq!(log_of(&named(&name)), Some((8080, transport)), "{name}");
            }
        }
        for name in
            ["", "plaintext", "plaintext:inbound", "mesh:inbound:10.0.0.1:80", "plaintext:inbound:1:x"]
        {
            assert_eq!(log_of(&named(name)), None, "{name}");
        }
        assert_eq!(log_of(&StreamAccessLogsMessage::default()), None);
    }

    #[test]
    fn a_peer_is_who_connected_whatever_its_headers_say() {
        let address = |text: &str| Some(socket_address(text.parse().unwrap(), 1234));
        let entry = |common| HttpAccessLogEntry { common_properties: common, ..Default::default() };
        let forwarded = AccessLogCommon {
            downstream_remote_address: address("192.0.2.1"),
            downstream_direct_remote_address: address("10.0.0.7"),
            ..Default::default()
        };
        let log_entry = vec![entry(Some(forwarded)), entry(None)];
        let log_entries = Some(LogEntries::HttpLogs(HttpAccessLogEntries { log_entry }));
        let message = StreamAccessLogsMessage { identifier: None, log_entries };
        assert_eq!(peers(&message), ["10.0.0.7".parse::<IpAddr>().unwrap()]);
    }
}
