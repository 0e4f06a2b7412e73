//! What a zone offers to the others, and what its ingress passes on.
//!
//! Instances are counted by the tags that any route's destination names, so that what crosses zones grows with
//! services and not with instances.

use std::collections::{BTreeMap, BTreeSet};

use ursa_crds::{Tags, tag};
use ursa_model::{DestinationId, IngressRoute, Protocol};

use crate::input::RemoteService;
use crate::view::MeshView;

impl MeshView {
    /// What this zone offers, ordered by tags. Only what is ready counts; what is not is said all the same, for it may
    /// call others, and while it comes and goes, who it is and what it speaks stay.
    pub fn available_services(&self) -> Vec<RemoteService> {
        let destinations = self.routes.destinations(&self.input.name);
        let mut asked: BTreeSet<&str> =
            destinations.iter().flat_map(|id| id.subset.keys()).map(String::as_str).collect();
        asked.insert(tag::SERVICE);
        // The zone is said once, not with each service.
        asked.remove(tag::ZONE);
        let mut groups: BTreeMap<(Tags, Protocol), (u32, BTreeSet<String>)> = BTreeMap::new();
        for inbound in self.local.values().flatten() {
            let tags = inbound.tags.iter().filter(|(key, _)| asked.contains(key.as_str()));
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

    /// The subsets that routes may send to a zone, as its ingress knows them.
    pub fn named_subsets(&self, zone: &str) -> BTreeSet<DestinationId> {
        let asked = self.routes.destinations(&self.input.name);
        let here = |id: &&DestinationId| {
            id.subset.get(tag::ZONE).is_none_or(|named| named == zone || named == tag::ANY)
        };
        let subsets = asked.iter().filter(here).map(DestinationId::anywhere);
        subsets.filter(|id| !id.subset.is_empty()).collect()
    }

    /// What this zone's ingress passes on for this mesh, ordered by destination: every service that it has, and of these
    /// subsets those that it has.
    pub fn ingress_routes(&self, subsets: BTreeSet<DestinationId>) -> Vec<IngressRoute> {
        if !self.mtls {
            return Vec::new();
        }
        let whole = self.local.keys().map(|service| DestinationId {
            mesh: self.input.name.clone(),
            service: service.clone(),
            subset: BTreeMap::new(),
        });
        let mut all = subsets;
        all.extend(whole);
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
