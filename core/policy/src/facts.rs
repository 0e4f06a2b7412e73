//! What who calls a destination has to know of it, besides where its instances are: worked out once, for all callers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ursa_crds::{Tags, tag};
use ursa_model::{Balancer, Destination, DestinationId, Outbound, Protocol, Shared, UpstreamTls};

use crate::view::MeshView;

/// What callers have to know of a destination.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    spoken: Spoken,
    /// Who may answer; `None` without mutual TLS.
    pub(crate) tls: Option<UpstreamTls>,
}

/// What instances speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    /// There are none.
    Nothing,
    /// All the same.
    One(Protocol),
    Several,
}

/// What was asked for, until a change concerns it.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    facts: BTreeMap<DestinationId, Arc<Facts>>,
    /// What was made of the facts.
    destinations: BTreeMap<DestinationId, Vec<Arc<Destination>>>,
    outbounds: Shared<Outbound>,
    /// Workloads of which the callers depend on who is known.
    depend_on_known: BTreeSet<String>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one for all proxies that have the same.
    pub(crate) fn share(&self, outbound: Outbound) -> Arc<Outbound> {
        self.lock().outbounds.of(outbound)
    }

    /// The callers of a workload depend on who is known.
    pub(crate) fn depends_on_known(&self, name: &str) {
        let mut remembered = self.lock();
        if !remembered.depend_on_known.contains(name) {
            remembered.depend_on_known.insert(name.to_owned());
        }
    }

    /// Workloads whose callers depended on who was known.
    pub(crate) fn take_dependent_on_known(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.lock().depend_on_known)
    }
}

impl Facts {
    /// Whether instances speak different protocols.
    pub(crate) fn is_mixed(&self) -> bool {
        self.spoken == Spoken::Several
    }

    /// What all these destinations speak, or opaque bytes if they disagree. One that nobody serves has no say: a route
    /// that names it early must not turn HTTP into opaque bytes.
    pub(crate) fn protocol<'a>(all: impl IntoIterator<Item = &'a Arc<Self>>) -> Protocol {
        let mut first = None;
        for facts in all {
            match facts.spoken {
                Spoken::Nothing => {}
                Spoken::One(protocol) if first.is_none_or(|first| first == protocol) => {
                    first = Some(protocol);
                }
                _ => return Protocol::Tcp,
            }
        }
        first.unwrap_or_default()
    }
}

impl MeshView {
    /// What who calls a destination has to know.
    pub(crate) fn facts(&self, destination: &DestinationId) -> Arc<Facts> {
        if let Some(facts) = self.memory.lock().facts.get(destination) {
            return facts.clone();
        }
        let facts = Arc::new(self.find_facts(destination));
        self.memory.lock().facts.insert(destination.clone(), facts.clone());
        facts
    }

    /// A destination whose instances are chosen so: one for all proxies.
    pub(crate) fn destination(&self, id: &DestinationId, balancer: Balancer) -> Arc<Destination> {
        let known = |remembered: &Remembered| {
            let of_id = remembered.destinations.get(id)?;
            of_id.iter().find(|known| known.balancer == balancer).cloned()
        };
        if let Some(known) = known(&self.memory.lock()) {
            return known;
        }
        let facts = self.facts(id);
        let (protocol, tls) = (Facts::protocol([&facts]), facts.tls.clone());
        let destination = Arc::new(Destination { id: id.clone(), protocol, balancer, tls });
        self.memory.lock().destinations.entry(id.clone()).or_default().push(destination.clone());
        destination
    }

    /// Forgets what is not so any more of a service's destinations; `all`: not only of those that are single instances.
    /// What was forgotten.
    pub(crate) fn forget_facts(&mut self, service: &str, all: bool) -> Vec<DestinationId> {
        let first = DestinationId::whole(&self.input.name, service);
        let of_service: Vec<(DestinationId, Arc<Facts>)> = (self.memory.lock().facts.range(first..))
            .take_while(|(id, _)| id.service == service)
            .filter(|(id, _)| all || id.subset.contains_key(tag::INSTANCE))
            .map(|(id, facts)| (id.clone(), facts.clone()))
            .collect();
        let outdated = of_service.into_iter().filter(|(id, facts)| self.find_facts(id) != **facts);
        let outdated: Vec<DestinationId> = outdated.map(|(id, _)| id).collect();
        let mut remembered = self.memory.lock();
        for id in &outdated {
            remembered.facts.remove(id);
            remembered.destinations.remove(id);
        }
        drop(remembered);
        outdated
    }

    fn find_facts(&self, destination: &DestinationId) -> Facts {
        let mut protocols = self.protocols(destination);
        let spoken = match protocols.next() {
            None => Spoken::Nothing,
            Some(first) if protocols.all(|protocol| protocol == first) => Spoken::One(first),
            Some(_) => Spoken::Several,
        };
        Facts { spoken, tls: self.mtls.then(|| self.upstream_tls(destination)) }
    }

    /// What each instance of a service speaks, at the destination's port if it names one.
    fn protocols<'a>(&'a self, destination: &'a DestinationId) -> impl Iterator<Item = Protocol> + 'a {
        let DestinationId { service, subset, .. } = destination;
        let port = subset.get(tag::PORT);
        let of_port =
            move |tags: &Tags| port.is_none_or(|port| tags.get(tag::PORT).is_none_or(|named| named == port));
        let own = self.local.of(service).filter(move |inbound| of_port(&inbound.tags));
        let others = self.reachable_remotes().flat_map(|remote| &remote.services);
        let others = others.filter(move |s| s.tags.get(tag::SERVICE) == Some(service) && of_port(&s.tags));
        own.map(|inbound| inbound.protocol).chain(others.map(|s| s.protocol))
    }
}
