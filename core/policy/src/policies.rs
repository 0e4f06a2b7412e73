//! Policies of one kind, found by the services that their destinations name.
//!
//! Invariant: a policy that cannot match for its services is never held against anything, so that cost follows the policies
//! of a service and not all of the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ursa_crds::{Object, ObjectKey, Selector, Spec, Tags, tag};

type ByKey = BTreeMap<ObjectKey, Arc<Object>>;

/// Policies of one kind.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    all: ByKey,
    /// Those whose destinations all name services, by each of these.
    by_service: BTreeMap<String, ByKey>,
    /// The others.
    of_any: ByKey,
}

impl Policies {
    pub(crate) fn new(policies: &[Arc<Object>]) -> Self {
        let mut all = Self::default();
        for policy in policies {
            all.set(&policy.key(), Some(policy.clone()));
        }
        all
    }

    /// Sets one (`None`: there is none); what was there before.
    pub(crate) fn set(&mut self, key: &ObjectKey, policy: Option<Arc<Object>>) -> Option<Arc<Object>> {
        let before = self.all.remove(key);
        match before.as_ref().map(|before| services(destinations(before))) {
            None => {}
            Some(None) => drop(self.of_any.remove(key)),
            Some(Some(services)) => {
                for service in services {
                    if let Some(of) = self.by_service.get_mut(service) {
                        of.remove(key);
                        if of.is_empty() {
                            self.by_service.remove(service);
                        }
                    }
                }
            }
        }
        if let Some(policy) = policy {
            match services(destinations(&policy)) {
                None => drop(self.of_any.insert(key.clone(), policy.clone())),
                Some(services) => {
                    for service in services {
                        let of = self.by_service.entry(service.to_owned()).or_default();
                        of.insert(key.clone(), policy.clone());
                    }
                }
            }
            self.all.insert(key.clone(), policy);
        }
        before
    }

    /// All, ordered by key.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.all.values()
    }

    /// Those that may have something with these tags as a destination, in no order.
    pub(crate) fn candidates(&self, destination: &Tags) -> impl Iterator<Item = &Arc<Object>> {
        let named = destination.get(tag::SERVICE).and_then(|service| self.by_service.get(service));
        named.into_iter().flat_map(BTreeMap::values).chain(self.of_any.values())
    }

    /// Those that may have something with one of these tag sets as a destination, ordered by key.
    pub(crate) fn candidates_of_any(&self, destinations: &[&Tags]) -> Vec<&Arc<Object>> {
        let services: BTreeSet<&String> =
            destinations.iter().filter_map(|tags| tags.get(tag::SERVICE)).collect();
        let named = services.into_iter().filter_map(|service| self.by_service.get(service)).flatten();
        let all: BTreeMap<&ObjectKey, &Arc<Object>> = named.chain(&self.of_any).collect();
        all.into_values().collect()
    }
}

fn destinations(policy: &Object) -> &[Selector] {
    match &policy.spec {
        Spec::TrafficPermission(spec) => &spec.destinations,
        Spec::TrafficRoute(spec) => &spec.destinations,
        _ => &[],
    }
}

/// The services outside of which none of the selectors matches anything; `None` if there are no such.
pub(crate) fn services(selectors: &[Selector]) -> Option<BTreeSet<&str>> {
    // An empty one matches nothing.
    let selectors = selectors.iter().map(|selector| &selector.match_tags).filter(|tags| !tags.is_empty());
    let named = selectors.map(|tags| tags.get(tag::SERVICE).map(String::as_str));
    named.map(|service| service.filter(|service| *service != tag::ANY)).collect()
}
