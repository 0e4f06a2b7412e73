//! A dataplane as its mesh takes it: whether it may be in it, under which names, and with which identity.
//!
//! Discovery and agents say what a workload wishes. What it gets is decided here, so that a change of the mesh takes
//! effect on all that is known.

use std::collections::BTreeMap;
use std::sync::Arc;

use ursa_crds::{DataplaneSpec, MeshSpec, Object, Pod, RevokedToken, Spec, Tags, WorkloadIdentity, tag};
use ursa_model::SpiffeId;

use crate::grants::{Place, is_declared, is_member, may_carry_name, may_carry_tag};
use crate::input::{MeshInput, ServiceAddress};

/// A dataplane of the own zone as its mesh takes it.
#[derive(Debug)]
pub(crate) struct Workload {
    /// As it was said.
    pub(crate) source: Arc<Object>,
    /// With the names that are in force.
    pub(crate) dataplane: Arc<Object>,
    /// The tags in its identity.
    pub(crate) tags: Tags,
    /// Why it is not in the mesh.
    pub(crate) exclusion: Option<String>,
    /// What it wishes and does not get, for people.
    pub(crate) notes: Vec<String>,
}

impl Workload {
    pub(crate) fn new(input: &MeshInput, source: &Arc<Object>) -> Self {
        let dataplane = source;
        let mesh = &input.spec;
        let spec = dataplane_spec(dataplane);
        let place = place(&input.zone, spec);
        let offered = spec.pod.as_ref().map_or(&spec.token_tags, |pod| &pod.tags);
        let mut notes = Vec::new();
        let tags = identity_tags(input, place, offered, &mut notes);
        let dataplane = if let Some(pod) = &spec.pod {
            let renamed = granted(input, place, pod, &mut notes);
            renamed.map_or_else(|| dataplane.clone(), |names| rename(dataplane, &names))
        } else {
            unproven(mesh, spec, &mut notes);
            dataplane.clone()
        };
        let exclusion = exclusion(&input.name, mesh, &input.zone, spec);
        Self { source: source.clone(), dataplane, tags, exclusion, notes }
    }

    pub(crate) fn spec(&self) -> &DataplaneSpec {
        dataplane_spec(&self.dataplane)
    }

    pub(crate) fn name(&self) -> &str {
        &self.dataplane.meta.name
    }

    pub(crate) fn is_member(&self) -> bool {
        self.exclusion.is_none()
    }

    /// What it serves, some perhaps more than once.
    pub(crate) fn services(&self) -> impl Iterator<Item = &str> {
        self.spec().networking.inbound.iter().map(ursa_crds::Inbound::service)
    }

    /// What of it is in its identity, and others may know too.
    pub(crate) fn known_as(&self) -> WorkloadIdentity {
        WorkloadIdentity {
            service: self.primary_service().to_owned(),
            namespace: self.namespace().to_owned(),
            tags: self.tags.clone(),
        }
    }

    /// Empty outside Kubernetes.
    pub(crate) fn namespace(&self) -> &str {
        self.spec().pod.as_ref().map_or("", |pod| &pod.namespace)
    }

    /// The service in its certificate.
    pub(crate) fn primary_service(&self) -> &str {
        let spec = self.spec();
        match &spec.pod {
            Some(pod) => &pod.service,
            None => spec.networking.inbound.first().map_or(SpiffeId::NONE, ursa_crds::Inbound::service),
        }
    }
}

/// Why a dataplane of a zone may not be in its mesh, for people; `None` if it may.
pub fn exclusion(name: &str, mesh: &MeshSpec, zone: &str, dataplane: &DataplaneSpec) -> Option<String> {
    if !is_member(mesh, Place::zone(zone)) {
        return Some(format!(
            "zone {zone} is not a member of mesh {name}: add it to Mesh.spec.members.zones of {name}"
        ));
    }
    let place = place(zone, dataplane);
    if let Some(namespace) = place.namespace.filter(|_| !is_member(mesh, place)) {
        return Some(format!(
            "namespace {namespace} is not a member of mesh {name}: add it to Mesh.spec.members.namespaces of {name}"
        ));
    }
    if dataplane.pod.is_some() {
        // What a pod is called follows from what is granted to it.
        return None;
    }
    if let Some(reason) = dataplane.token_id.as_deref().and_then(|id| revocation(mesh, id)) {
        return Some(reason);
    }
    let services = dataplane.networking.inbound.iter().map(ursa_crds::Inbound::service);
    let taken = services.into_iter().find(|service| !may_carry_name(mesh, place, service))?;
    Some(format!(
        "mesh {name} grants the service name {taken} to other zones, not to {zone}: add the zone to Mesh.spec.services of \
         {name}, under {taken}"
    ))
}

/// Why a data-plane token is not taken in a mesh any more, for people; `None` if it was not revoked.
pub fn revocation(mesh: &MeshSpec, token_id: &str) -> Option<String> {
    let RevokedToken { id, revoked_at, expires_at: _, reason } = mesh.revoked_token(token_id)?;
    let at = revoked_at.map(|at| format!(" at {at:.0}")).unwrap_or_default();
    let why = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    Some(format!("token {id} was revoked{at}{why}: ask for another (`ursactl generate dataplane-token`)"))
}

/// The same address under the name that is in force.
pub(crate) fn address_in_force(input: &MeshInput, known: &ServiceAddress) -> ServiceAddress {
    let namespace = known.service.rsplit_once('.').map_or("", |(_, namespace)| namespace);
    let place = Place::new(&input.zone, namespace);
    let wish = known.wished.as_ref().filter(|wish| {
        SpiffeId::is_segment(wish)
            && is_member(&input.spec, place)
            && may_carry_name(&input.spec, place, wish)
    });
    ServiceAddress { service: wish.unwrap_or(&known.service).clone(), wished: None, ..known.clone() }
}

pub(crate) fn dataplane_spec(object: &Object) -> &DataplaneSpec {
    match &object.spec {
        Spec::Dataplane(spec) => spec,
        other => unreachable!("instances hold dataplanes, not {}", other.kind()),
    }
}

fn place<'a>(zone: &'a str, spec: &'a DataplaneSpec) -> Place<'a> {
    Place::new(zone, spec.pod.as_ref().map_or("", |pod| &pod.namespace))
}

fn identity_tags(input: &MeshInput, place: Place<'_>, offered: &Tags, notes: &mut Vec<String>) -> Tags {
    let declared = input.spec.identity_tags.iter().filter_map(|tag| offered.get_key_value(&tag.key));
    // A label of Kubernetes may be empty.
    let declared = declared.filter(|(_, value)| SpiffeId::is_segment(value));
    let (carried, refused): (Vec<_>, Vec<_>) =
        declared.partition(|(key, _)| may_carry_tag(&input.spec, place, key));
    notes.extend(refused.into_iter().map(|(key, value)| {
        format!(
            "the tag {key}={value} is not part of its identity: it is not granted to {}: add it to \
             Mesh.spec.identityTags of {}, under {key}",
            said(place),
            input.name
        )
    }));
    carried.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Tags that its user may take for part of its identity.
fn unproven(mesh: &MeshSpec, spec: &DataplaneSpec, notes: &mut Vec<String>) {
    let tags = spec.networking.inbound.iter().flat_map(|inbound| &inbound.tags);
    let tags: BTreeMap<&String, &String> = tags.filter(|(key, _)| is_declared(mesh, key)).collect();
    let unproven = tags.into_iter().filter(|(key, value)| spec.token_tags.get(*key) != Some(value));
    notes.extend(unproven.map(|(key, value)| {
        format!(
            "the tag {key}={value} is not part of its identity: its data-plane token does not carry it; `ursactl generate \
             dataplane-token --tag {key}={value}` makes one that does"
        )
    }));
}

/// Names of a pod's services in force, by those that they have of themselves.
struct Names<'a> {
    services: BTreeMap<&'a String, &'a String>,
    primary: &'a String,
}

/// `None`: it is called what it is called without any wish.
fn granted<'a>(
    input: &MeshInput,
    place: Place<'_>,
    pod: &'a Pod,
    notes: &mut Vec<String>,
) -> Option<Names<'a>> {
    let mut is_granted = |wish: &str, instead: &str| {
        let granted = may_carry_name(&input.spec, place, wish) && SpiffeId::is_segment(wish);
        if !granted {
            notes.push(not_granted(input, place, wish, instead));
        }
        granted
    };
    let wished = pod.wished_names.iter();
    let services: BTreeMap<_, _> = wished.filter(|(own, wish)| is_granted(wish, own)).collect();
    let named = services.get(&pod.service).copied().unwrap_or(&pod.service);
    let primary = pod.wished_service.as_ref().filter(|wish| is_granted(wish, named)).unwrap_or(named);
    (!services.is_empty() || *primary != pod.service).then_some(Names { services, primary })
}

fn not_granted(input: &MeshInput, place: Place<'_>, wish: &str, instead: &str) -> String {
    if !SpiffeId::is_segment(wish) {
        return format!(
            "{wish:?} is no name of a service, so it is {instead}: 1 to 253 of [A-Za-z0-9._-] are one"
        );
    }
    let (mesh, zone) = (&input.name, place.zone);
    format!(
        "the service name {wish} is not granted to {}, so it is {instead}: add it to Mesh.spec.services of {mesh}: \
         {{name: {wish}, namespaces: [{}], zones: [{zone}]}}",
        said(place),
        place.namespace.unwrap_or_default(),
    )
}

fn said(place: Place<'_>) -> String {
    let zone = place.zone;
    place.namespace.map_or_else(|| format!("zone {zone}"), |name| format!("namespace {name} in zone {zone}"))
}

fn rename(dataplane: &Object, names: &Names<'_>) -> Arc<Object> {
    let mut spec = dataplane_spec(dataplane).clone();
    for inbound in &mut spec.networking.inbound {
        if let Some(service) = inbound.tags.get_mut(tag::SERVICE)
            && let Some(name) = names.services.get(service)
        {
            (*name).clone_into(service);
        }
    }
    // Two Services under one name are one.
    let mut seen = std::collections::BTreeSet::new();
    spec.networking.inbound.retain(|inbound| {
        seen.insert((inbound.port, inbound.service().to_owned(), inbound.tags.get(tag::PORT).cloned()))
    });
    if let Some(pod) = &mut spec.pod {
        pod.service.clone_from(names.primary);
        pod.tags.insert(tag::SERVICE.into(), names.primary.clone());
    }
    Arc::new(Object { meta: dataplane.meta.clone(), spec: Spec::Dataplane(spec) })
}
