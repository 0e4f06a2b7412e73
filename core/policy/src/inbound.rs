//! Inbounds of the own zone as policies see them: with the tags that are set for users.

use std::net::IpAddr;

use ursa_crds::{Protocol as TagProtocol, Tags, tag};
use ursa_model::{EndpointState, Protocol};

use crate::input::Instance;
use crate::workload::Workload;

/// An inbound of the own zone, with the tags that policies see.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LocalInbound {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    /// With the automatic tags.
    pub(crate) tags: Tags,
    pub(crate) protocol: Protocol,
    /// The service in the certificate.
    pub(crate) primary: String,
    pub(crate) state: EndpointState,
    /// Ready, and not about to stop.
    pub(crate) serves: bool,
}

impl LocalInbound {
    pub(crate) fn service(&self) -> &str {
        &self.tags[tag::SERVICE]
    }

    /// Whether it differs from another one in nothing but where it is and how it is: callers know the same of both.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let count = |tags: &Tags| tags.len() - usize::from(tags.contains_key(tag::INSTANCE));
        let same =
            |(key, value): (&String, &String)| key == tag::INSTANCE || other.tags.get(key) == Some(value);
        self.protocol == other.protocol
            && self.primary == other.primary
            && count(&self.tags) == count(&other.tags)
            && self.tags.iter().all(same)
    }
}

/// The user's tags, and those that are set for them.
pub(crate) fn automatic(inbound: &ursa_crds::Inbound, instance: &str, zone: &str) -> Tags {
    let mut tags = inbound.tags.clone();
    tags.insert(tag::ZONE.into(), zone.into());
    tags.insert(tag::INSTANCE.into(), instance.into());
    tags.entry(tag::PORT.into()).or_insert_with(|| inbound.port.to_string());
    tags.entry(tag::PROTOCOL.into()).or_insert_with(|| "tcp".into());
    tags
}

/// What a protocol's tag means for proxies.
pub fn protocol(tag: TagProtocol) -> Protocol {
    match tag {
        TagProtocol::Tcp => Protocol::Tcp,
        TagProtocol::Http => Protocol::Http,
        TagProtocol::Http2 | TagProtocol::Grpc => Protocol::Http2,
    }
}

pub(crate) fn local_inbounds<'a>(
    instance: &'a Instance,
    workload: &'a Workload,
    zone: &'a str,
) -> impl Iterator<Item = LocalInbound> + 'a {
    let spec = workload.spec();
    spec.networking.inbound.iter().map(move |inbound| LocalInbound {
        address: spec.networking.address,
        port: inbound.port,
        tags: automatic(inbound, &instance.dataplane.meta.name, zone),
        protocol: protocol(inbound.protocol()),
        primary: workload.primary_service().to_owned(),
        state: instance.state,
        serves: !instance.out_of_service && !instance.unready_ports.contains(&inbound.port),
    })
}
