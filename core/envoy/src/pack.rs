//! Small constructors for messages that occur everywhere.

#![allow(clippy::unnecessary_wraps, reason = "the fields that these values go into are optional")]

use std::net::IpAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, ConfigSource, SocketAddress, TransportSocket, address,
    config_source::ConfigSourceSpecifier, socket_address::PortSpecifier, transport_socket,
};
use envoy_types::pb::google::protobuf::{Any, BoolValue, Duration as PbDuration, UInt32Value};
pub(crate) use envoy_types::util::pack_any;
use prost::{Message, Name};

pub(crate) fn socket_address(ip: IpAddr, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: ip.to_string(),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..Default::default()
        })),
    }
}

/// After this time Envoy goes on without what it waits for; its own default, 15 s, is long for a start.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);

/// The configuration comes over the same aggregated stream.
pub(crate) fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        initial_fetch_timeout: duration(FETCH_TIMEOUT),
        ..Default::default()
    }
}

pub(crate) fn duration(value: Duration) -> Option<PbDuration> {
    Some(PbDuration {
        seconds: value.as_secs().try_into().unwrap_or(i64::MAX),
        nanos: value.subsec_nanos().cast_signed(),
    })
}

pub(crate) fn bool_value(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

pub(crate) fn uint(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(crate) fn transport_socket<T: Message + Name>(context: T) -> Option<TransportSocket> {
    Some(TransportSocket {
        name: "envoy.transport_sockets.tls".into(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(pack_any(context))),
    })
}

pub(crate) fn any<T: Message + Name>(message: T) -> Any {
    pack_any(message)
}
