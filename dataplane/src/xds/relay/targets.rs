//! What Envoy should run: the wanted version of each resource, or its last-good one while the wanted is refused.
//!
//! Invariant: a refused version is never a target, except while it is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ursa_envoy::{IDENTITY_SECRET, ResourceType};

use crate::xds::cache::{Cache, Entry};

/// Whether this is the workload's certificate, which is the agent's own and no business of the control plane.
pub(super) fn is_identity(resource_type: ResourceType, name: &str) -> bool {
    resource_type == ResourceType::Secret && name == IDENTITY_SECRET
}

#[derive(Clone, Debug)]
struct Refusal {
    message: String,
    /// Envoy is being asked again.
    retry: bool,
}

/// Versions that Envoy refused, by type and name.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals {
    types: BTreeMap<ResourceType, BTreeMap<String, BTreeMap<String, Refusal>>>,
}

impl Refusals {
    pub(super) fn is_empty(&self) -> bool {
        self.types.values().all(BTreeMap::is_empty)
    }

    fn get(&self, resource_type: ResourceType, name: &str, version: &str) -> Option<&Refusal> {
        self.types.get(&resource_type)?.get(name)?.get(version)
    }

    /// Envoy's reason, if it refused this version.
    pub(super) fn reason(&self, resource_type: ResourceType, name: &str, version: &str) -> Option<&str> {
        self.get(resource_type, name, version).map(|refusal| refusal.message.as_str())
    }

    /// Notes a refusal. True: it is the first of this version.
    pub(super) fn refuse(
        &mut self,
        resource_type: ResourceType,
        name: &str,
        version: &str,
        message: &str,
    ) -> bool {
        let versions = self.types.entry(resource_type).or_default().entry(name.to_owned()).or_default();
        versions.insert(version.to_owned(), Refusal { message: message.to_owned(), retry: false }).is_none()
    }

    /// Envoy accepted this version. True: it had refused it before.
    pub(super) fn accept(&mut self, resource_type: ResourceType, name: &str, version: &str) -> bool {
        let mut had = false;
        self.retain(resource_type, name, |known| {
            had |= known == version;
            known != version
        });
        had
    }

    /// Forgets versions of a resource that nobody can want any more.
    pub(super) fn forget_other_versions(
        &mut self,
        resource_type: ResourceType,
        name: &str,
        wanted: &Cache,
        good: &Cache,
    ) {
        let alive = |cache: &Cache, version: &str| {
            cache.get(resource_type, name).is_some_and(|entry| entry.version == version)
        };
        self.retain(resource_type, name, |version| alive(wanted, version) || alive(good, version));
    }

    fn retain(&mut self, resource_type: ResourceType, name: &str, mut keep: impl FnMut(&str) -> bool) {
        let Some(names) = self.types.get_mut(&resource_type) else { return };
        let Some(versions) = names.get_mut(name) else { return };
        versions.retain(|version, _| keep(version));
        if versions.is_empty() {
            names.remove(name);
        }
    }

    /// A new Envoy may accept what the last one refused; only last-good versions are tried, there is nothing else.
    pub(super) fn retry_good(&mut self, good: &Cache) {
        self.each(|resource_type, name, version, refusal| {
            refusal.retry |= good.get(resource_type, name).is_some_and(|entry| entry.version == version);
        });
    }

    /// Asks for everything again.
    pub(super) fn retry_all(&mut self) {
        self.each(|_, _, _, refusal| refusal.retry = true);
    }

    fn each(&mut self, mut visit: impl FnMut(ResourceType, &str, &str, &mut Refusal)) {
        for (resource_type, names) in &mut self.types {
            for (name, versions) in names {
                for (version, refusal) in versions {
                    visit(*resource_type, name, version, refusal);
                }
            }
        }
    }
}

/// A view of the relay's sets.
#[derive(Clone, Copy)]
pub(super) struct Targets<'a> {
    pub(super) wanted: &'a Cache,
    pub(super) good: &'a Cache,
    pub(super) refusals: &'a Refusals,
    pub(super) identity: Option<&'a Arc<Entry>>,
    pub(super) known: &'a BTreeSet<ResourceType>,
}

impl<'a> Targets<'a> {
    /// What Envoy should run under this name.
    pub(super) fn get(&self, resource_type: ResourceType, name: &str) -> Option<&'a Arc<Entry>> {
        if is_identity(resource_type, name) {
            return self.identity.filter(|entry| !self.is_refused(resource_type, name, entry));
        }
        if let Some(wanted) = self.wanted.get(resource_type, name) {
            return [Some(wanted), self.good.get(resource_type, name)]
                .into_iter()
                .flatten()
                .find(|entry| !self.is_refused(resource_type, name, entry));
        }
        self.good
            .get(resource_type, name)
            .filter(|entry| self.holds_back(resource_type) && !self.is_refused(resource_type, name, entry))
    }

    /// What is held of a wanted resource, as the control plane may be told: never a version that was refused, and none while Envoy
    /// has yet to answer for the one that is wanted.
    pub(super) fn held(&self, resource_type: ResourceType, name: &str) -> Option<&'a Arc<Entry>> {
        let (wanted, good) = (self.wanted.get(resource_type, name)?, self.good.get(resource_type, name)?);
        let is_refused = |entry: &Entry| self.refusals.get(resource_type, name, &entry.version).is_some();
        let is_decided = good.version == wanted.version || is_refused(wanted);
        (is_decided && !is_refused(good)).then_some(good)
    }

    /// Every name that may have a target, without repeats, ordered.
    pub(super) fn names(&self, resource_type: ResourceType) -> BTreeSet<&'a str> {
        let wanted = self.wanted.iter(resource_type);
        let held =
            self.holds_back(resource_type).then(|| self.good.iter(resource_type)).into_iter().flatten();
        wanted.chain(held).map(|(name, _)| name.as_str()).collect()
    }

    fn is_refused(&self, resource_type: ResourceType, name: &str, entry: &Entry) -> bool {
        self.refusals.get(resource_type, name, &entry.version).is_some_and(|refusal| !refusal.retry)
    }

    /// Whether removals of this type wait: a resource that may refer to one of them runs in its last-good version.
    fn holds_back(&self, resource_type: ResourceType) -> bool {
        use ResourceType::{Cluster, Endpoint, Listener, Route, Secret};
        let referrers: &[ResourceType] = match resource_type {
            Cluster => &[Listener, Route],
            Endpoint | Secret => &[Cluster, Listener, Route],
            Route => &[Listener],
            Listener => &[],
        };
        referrers.iter().any(|referrer| {
            self.refusals.types.get(referrer).into_iter().flatten().any(|(name, _)| {
                let good = self.good.get(*referrer, name);
                let wanted = self.wanted.get(*referrer, name);
                good.zip(wanted).is_some_and(|(good, wanted)| {
                    good.version != wanted.version
                        && self.refusals.get(*referrer, name, &wanted.version).is_some()
                        && !self.is_refused(*referrer, name, good)
                })
            })
        })
    }
}
