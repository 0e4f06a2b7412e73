//! What a zone offers to the others, and what its ingress passes on.
//!
//! Instances are counted by port and the tags that any route's destination names, so that what crosses zones grows with
//! services and not with instances.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ursa_crds::{Tags, tag};
use ursa_model::{DestinationId, IngressRoute, Protocol};

use crate::input::RemoteService;
use crate::view::MeshView;

/// What is offered of each service, until a change concerns it.
#[derive(Debug, Default)]
pub(crate) struct Offered(Mutex<OfferedParts>);

#[derive(Debug, Default)]
struct OfferedParts {
    /// The tags that are asked for.
    asked: BTreeSet<String>,
    of: BTreeMap<String, Vec<RemoteService>>,
}

impl Offered {
    fn lock(&self) -> MutexGuard<'_, OfferedParts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn forget(&mut self, service: &str) {
        self.lock().of.remove(service);
    }
}

impl MeshView {
    /// What this zone offers, ordered by tags. Only what is ready counts; what is not is said all the same, for it may
    /// call others, and while it comes and goes, who it is and what it speaks stay.
    pub fn available_services(&self) -> Vec<RemoteService> {
        let named = self.routes.destinations().flat_map(|id| id.subset.keys());
        let mut asked: BTreeSet<String> = named.cloned().collect();
        asked.extend([tag::SERVICE, tag::PORT].map(str::to_owned));
        // The zone is said once, not with each service.
        asked.remove(tag::ZONE);
        let mut known = self.offered.lock();
        if known.asked != asked {
            *known = OfferedParts { asked, of: BTreeMap::new() };
        }
        let OfferedParts { asked, of } = &mut *known;
        let mut all = Vec::new();
        for service in self.local.services() {
            if !of.contains_key(service) {
                of.insert(service.clone(), self.available(service, asked));
            }
            all.extend(of[service].iter().cloned());
        }
        all.sort_by(|a, b| (&a.tags, a.protocol).cmp(&(&b.tags, b.protocol)));
        all
    }

    /// What is offered of one service.
    fn available(&self, service: &str, asked: &BTreeSet<String>) -> Vec<RemoteService> {
        let mut groups: BTreeMap<(Tags, Protocol), (u32, BTreeSet<String>)> = BTreeMap::new();
        for inbound in self.local.of(service) {
            let tags = inbound.tags.iter().filter(|(key, _)| asked.contains(*key));
            let tags = tags.map(|(key, value)| (key.clone(), value.clone())).collect();
            let (instances, identities) = groups.entry((tags, inbound.protocol)).or_default();
            *instances += u32::from(inbound.serves);
            identities.insert(inbound.primary.clone());
        }
        groups
            .into_iter()
            .map(|((tags, protocol), (instances, identity_services))| RemoteService {
                tags,
                instances,
                protocol,
                identity_services,
            })
            .collect()
    }

    /// The subsets that routes may send to a zone, as its ingress knows them: who calls a port of a service calls that port of
    /// a subset.
    pub fn named_subsets(&self, zone: &str) -> BTreeSet<DestinationId> {
        let here = |id: &&DestinationId| {
            id.subset.get(tag::ZONE).is_none_or(|named| named == zone || named == tag::ANY)
        };
        let subsets = self.routes.destinations().filter(here).map(DestinationId::anywhere);
        let subsets = subsets.filter(|id| !id.subset.is_empty());
        subsets.flat_map(|id| self.with_ports(zone, id)).collect()
    }

    /// The port of a service that instances with these tags serve, all of them.
    pub fn whole(&self, tags: &Tags) -> DestinationId {
        let text = |key| tags.get(key).cloned();
        DestinationId {
            mesh: self.input.name.clone(),
            service: text(tag::SERVICE).unwrap_or_default(),
            subset: text(tag::PORT).map(|port| (tag::PORT.to_owned(), port)).into_iter().collect(),
        }
    }

    /// A destination, and the same at each port of its service in a zone.
    fn with_ports(&self, zone: &str, id: DestinationId) -> Vec<DestinationId> {
        if id.subset.contains_key(tag::PORT) {
            return vec![id];
        }
        let ports = self.tags_in(zone, &id.service).filter_map(|tags| tags.get(tag::PORT));
        let ports: BTreeSet<&String> = ports.collect();
        let at = |port: &String| {
            let mut at_port = id.clone();
            at_port.subset.insert(tag::PORT.into(), port.clone());
            at_port
        };
        let at_ports: Vec<DestinationId> = ports.into_iter().map(at).collect();
        std::iter::once(id).chain(at_ports).collect()
    }

    /// The tags of what serves a service in a zone.
    fn tags_in<'a>(&'a self, zone: &'a str, service: &'a str) -> impl Iterator<Item = &'a Tags> {
        let own = self.local.of(service).filter(move |_| zone == self.input.zone);
        let others = self.input.remotes.iter().filter(move |remote| remote.zone == zone);
        let others = others.flat_map(|remote| &remote.services).map(|service| &service.tags);
        let others = others.filter(move |tags| tags.get(tag::SERVICE).is_some_and(|name| name == service));
        own.map(|inbound| &inbound.tags).chain(others)
    }

    /// What this zone's ingress passes on for this mesh, ordered by destination: every service that it has, each of its ports,
    /// and of these subsets those that it has.
    pub fn ingress_routes(&self, subsets: BTreeSet<DestinationId>) -> Vec<IngressRoute> {
        if !self.mtls {
            return Vec::new();
        }
        let whole = self.local.services().map(|service| DestinationId::whole(&self.input.name, service));
        let mut all = subsets;
        all.extend(whole.flat_map(|id| self.with_ports(&self.input.zone, id)));
        all.retain(|destination| self.local_inbounds(destination).next().is_some());
        all.into_iter().map(|destination| IngressRoute { destination }).collect()
    }
}

/// A destination's tags, service included.
pub(crate) fn in_zone(destination: &DestinationId) -> Tags {
    let mut tags = destination.subset.clone();
    tags.insert(tag::SERVICE.into(), destination.service.clone());
    tags
}
