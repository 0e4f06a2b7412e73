//! Inbounds of the own zone by service and workload.

use std::collections::BTreeMap;

use ursa_crds::tag;

use crate::inbound::LocalInbound;

/// Service → name of the workload → its inbounds of that service.
#[derive(Debug, Default)]
pub(crate) struct Local(BTreeMap<String, BTreeMap<String, Vec<LocalInbound>>>);

impl Local {
    /// Every inbound.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &LocalInbound> {
        self.0.values().flat_map(BTreeMap::values).flatten()
    }

    /// Of one service.
    pub(crate) fn of(&self, service: &str) -> impl Iterator<Item = &LocalInbound> {
        self.0.get(service).into_iter().flat_map(BTreeMap::values).flatten()
    }

    /// Of one service and workload.
    pub(crate) fn of_one<'a>(
        &'a self,
        service: &str,
        name: &str,
    ) -> impl Iterator<Item = &'a LocalInbound> + use<'a> {
        self.0.get(service).and_then(|of| of.get(name)).into_iter().flatten()
    }

    /// Of one service, but for those of one workload.
    pub(crate) fn of_others(&self, service: &str, name: &str) -> impl Iterator<Item = &LocalInbound> {
        let all = self.0.get(service).into_iter().flatten();
        all.filter(move |(other, _)| *other != name).flat_map(|(_, inbounds)| inbounds)
    }

    /// The services, ordered.
    pub(crate) fn services(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Adds those of a workload.
    pub(crate) fn insert(&mut self, name: &str, inbounds: impl IntoIterator<Item = LocalInbound>) {
        for inbound in inbounds {
            let of = self.0.entry(inbound.tags[tag::SERVICE].clone()).or_default();
            of.entry(name.to_owned()).or_default().push(inbound);
        }
    }

    /// Takes those of a workload out of a service.
    pub(crate) fn remove(&mut self, service: &str, name: &str) -> Vec<LocalInbound> {
        let Some(of) = self.0.get_mut(service) else { return Vec::new() };
        let removed = of.remove(name).unwrap_or_default();
        if of.is_empty() {
            self.0.remove(service);
        }
        removed
    }
}
