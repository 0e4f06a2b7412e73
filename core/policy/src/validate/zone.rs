//! `ZoneIngress`, `MeshZone`, `MeshZoneInsight` and `DataplaneInsight`.

use ursa_crds::{
    DataplaneInsightSpec, MAX_LAGGARDS, MAX_UNAUTHENTICATED_PEERS, MeshZoneInsightSpec, MeshZoneSpec, Object,
    Protocol, SocketSpec, WorkloadIdentity, ZoneIngressSpec,
};
use ursa_model::SpiffeId;

use super::{Problems, meta, tags};

pub(super) fn check_ingress(spec: &ZoneIngressSpec, problems: &mut Problems) {
    if !spec.zone.is_empty() {
        meta::label(&spec.zone, "spec.zone", problems);
    }
    problems.require(
        spec.control_plane_ref.is_none(),
        "spec.controlPlaneRef",
        "is for the operator of a Kubernetes cluster: apply it there with kubectl",
    );
    match spec.networking {
        // It listens at all its addresses.
        Some(networking) if networking.address.is_unspecified() && spec.advertised.is_some() => {}
        Some(networking) => socket(networking, "spec.networking", problems),
        None => problems.require(false, "spec.networking", "is required: where the proxy listens"),
    }
    if let Some(advertised) = spec.advertised {
        socket(advertised, "spec.advertised", problems);
    }
}

fn socket(socket: SocketSpec, field: &str, problems: &mut Problems) {
    let SocketSpec { address, port } = socket;
    problems.require(
        !address.is_unspecified() && !address.is_multicast(),
        format!("{field}.address"),
        format!("{address} is not the address of one host"),
    );
    problems.require(port > 0, format!("{field}.port"), "must be between 1 and 65535");
}

pub(super) fn check_dataplane_insight(object: &Object, spec: &DataplaneInsightSpec, problems: &mut Problems) {
    meta::label(&spec.zone, "spec.zone", problems);
    let expected = DataplaneInsightSpec::name(&spec.zone, &spec.dataplane);
    problems.require(object.meta.name == expected, "metadata.name", format!("must be {expected}"));
    problems.at_most(1000, spec.inbounds.len(), "spec.inbounds");
    problems.at_most(1000, spec.rejections.len(), "spec.rejections");
    let peers = spec.unauthenticated_peers.len();
    problems.at_most(MAX_UNAUTHENTICATED_PEERS, peers, "spec.unauthenticatedPeers");
}

pub(super) fn check_mesh_zone_insight(object: &Object, spec: &MeshZoneInsightSpec, problems: &mut Problems) {
    meta::label(&object.meta.name, "metadata.name", problems);
    problems.at_most(100_000, spec.resources.len(), "spec.resources");
    for (position, resource) in spec.resources.iter().enumerate() {
        let field = format!("spec.resources[{position}]");
        problems.require(
            (1..=64).contains(&resource.uid.len()),
            format!("{field}.uid"),
            "must be 1 to 64 characters",
        );
        problems.at_most(MAX_LAGGARDS, resource.laggards.len(), format!("{field}.laggards"));
        problems.at_most(MAX_LAGGARDS, resource.rejections.len(), format!("{field}.rejections"));
    }
}

pub(super) fn check_mesh_zone(object: &Object, spec: &MeshZoneSpec, problems: &mut Problems) {
    meta::label(&object.meta.name, "metadata.name", problems);
    problems.at_most(8, spec.backends.len(), "spec.backends");
    for (position, backend) in spec.backends.iter().enumerate() {
        meta::label(&backend.name, &format!("spec.backends[{position}].name"), problems);
    }
    problems.at_most(100_000, spec.subsets.len(), "spec.subsets");
    problems.at_most(100_000, spec.services.len(), "spec.services");
    for (position, service) in spec.services.iter().enumerate() {
        let field = format!("spec.services[{position}]");
        tags::check(&service.tags, false, &format!("{field}.tags"), problems);
        tags::require_service(&service.tags, &format!("{field}.tags"), problems);
        problems.require(
            Protocol::parse(&service.protocol).is_some(),
            format!("{field}.protocol"),
            "must be a value of the tag ursamesh.io/protocol",
        );
        let valid = service.identity_services.iter().all(|name| SpiffeId::is_segment(name));
        problems.require(valid, format!("{field}.identityServices"), "must be 1 to 253 of [A-Za-z0-9._-]");
    }
    let identities = spec.identities.as_deref().unwrap_or_default();
    problems.at_most(100_000, identities.len(), "spec.identities");
    for (position, WorkloadIdentity { service, namespace, tags }) in identities.iter().enumerate() {
        let field = format!("spec.identities[{position}]");
        let valid = SpiffeId::is_segment(service);
        problems.require(valid, format!("{field}.service"), "must be 1 to 253 of [A-Za-z0-9._-]");
        if !namespace.is_empty() {
            meta::label(namespace, &format!("{field}.namespace"), problems);
        }
        problems.at_most(32, tags.len(), format!("{field}.tags"));
        tags::check(tags, false, &format!("{field}.tags"), problems);
    }
}
