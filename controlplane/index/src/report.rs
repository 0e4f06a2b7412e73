//! What is observed of each proxy, as an object in the zone's store, from where global gets a copy.

use ursa_crds::{
    DataplaneInsightSpec, DataplaneSpec, Kind, Meta, Object, ObjectKey, ObservedCertificate, ObservedInbound,
    ObservedRejection, Spec, UnauthenticatedPeer,
};

use crate::insight::{Certificate, ProxyInsight};
use crate::presence::Presence;

/// The key of the object about a dataplane.
pub(crate) fn key(mesh: &str, zone: &str, dataplane: &str) -> ObjectKey {
    ObjectKey::in_mesh(Kind::DataplaneInsight, mesh, &DataplaneInsightSpec::name(zone, dataplane))
}

/// The object about a dataplane; `peers`: whom it let in without an identity of the mesh.
pub(crate) fn object(
    zone: &str,
    name: &str,
    dataplane: &DataplaneSpec,
    presence: Option<&Presence>,
    insight: &ProxyInsight,
    peers: Vec<UnauthenticatedPeer>,
) -> Object {
    let ready = |port: u16| match &dataplane.pod {
        // The kubelet knows, whichever replica the agent talks to.
        Some(pod) => !pod.unready.contains(&port),
        None => presence.is_some_and(|presence| presence.serves(port)),
    };
    let inbounds = dataplane.networking.inbound.iter().map(|inbound| ObservedInbound {
        port: inbound.port,
        tags: inbound.tags.clone(),
        ready: ready(inbound.port),
    });
    let rejections = insight.rejections.iter().map(|(key, rejection)| ObservedRejection {
        type_url: key.resource_type.type_url().to_owned(),
        name: key.name.clone(),
        version: rejection.version.clone(),
        message: rejection.message.clone(),
    });
    let certificate =
        |held: &Certificate| ObservedCertificate { backend: held.backend.clone(), expires: held.expires };
    let spec = DataplaneInsightSpec {
        mesh: dataplane.mesh.clone(),
        zone: zone.to_owned(),
        dataplane: name.to_owned(),
        address: dataplane.networking.address.to_string(),
        inbounds: inbounds.collect(),
        connected: insight.connected,
        connected_at: insight.connected_at,
        disconnected_at: insight.disconnected_at,
        unheard_since: insight.unheard_since,
        token_id: dataplane.token_id.clone(),
        agent_version: insight.agent_version.clone(),
        envoy_version: insight.envoy_version.clone(),
        certificate: insight.certificate.as_ref().map(certificate),
        rejections: rejections.collect(),
        unauthenticated_peers: peers,
    };
    let meta = Meta { name: DataplaneInsightSpec::name(zone, name), ..Meta::default() };
    Object { meta, spec: Spec::DataplaneInsight(spec) }
}
