//! The relay: what each side of the agent is told, as a pure state machine (events in, actions out).
//!
//! Three sets of resources: *wanted* is what the control plane said last, *good* what Envoy accepted last or did not
//! ask for (it outlives both sides), and *acked* (in the view of each Envoy stream) what this Envoy runs. A version that Envoy refuses
//! is quarantined: its last-good version stays in place, and so does what that one refers to; all others go on. Where that
//! would let callers in who are to be refused, the last-good version is made to let nobody in ([`narrowing::close`]).
//!
//! Invariant: a response of the control plane is acknowledged only when Envoy enforces all of it that Envoy asked
//! for; when both sides are quiet, Envoy runs *wanted*, with *good* in place of what it refused.
//! Source: <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds>.

mod answers;
mod envoy;
mod narrowing;
mod plan;
mod targets;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_convergence;
mod wordings;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ursa_envoy::wire::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use ursa_envoy::{IDENTITY_SECRET, ResourceType};

use crate::xds::cache::{Cache, Entry};
use answers::Pending;
use envoy::{EnvoyView, Outcome};
use targets::{Refusals, Targets, is_identity};
use wordings::Wordings;

/// What happened.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "moved once, few at a time")]
pub enum Event {
    /// A stream to the control plane opened; the node id is what the control plane calls this proxy.
    UpstreamUp {
        /// As in the control plane's Welcome.
        node_id: String,
    },
    /// The stream to the control plane ended.
    UpstreamDown,
    /// The control plane sent this.
    Upstream(DeltaDiscoveryResponse),
    /// Envoy opened a stream; an earlier one is void.
    EnvoyUp,
    /// Envoy's stream ended.
    EnvoyDown,
    /// Envoy sent this.
    Envoy(DeltaDiscoveryRequest),
    /// The workload's certificate changed (`None`: it has none).
    Identity(Option<Arc<Entry>>),
    /// Time to ask Envoy again about what it refused: the cause may have gone (a port in use, for example).
    Retry,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "moved once, few at a time")]
pub enum Action {
    /// Send to the control plane.
    Upstream(DeltaDiscoveryRequest),
    /// Send to Envoy.
    Envoy(DeltaDiscoveryResponse),
    /// The last-good set changed: keep it.
    Save,
    /// What Envoy enforces changed without a response that could say so: open the control plane's stream anew, which
    /// states the versions that are held.
    Reconnect,
    /// For the log: Envoy refused this.
    Refused {
        /// The resource's type.
        resource_type: ResourceType,
        /// The resource's name.
        name: String,
        /// Envoy's reason.
        message: String,
    },
}

/// The state; see the module.
#[derive(Debug, Default)]
pub struct Relay {
    wanted: Cache,
    good: Cache,
    /// Types whose list of names is known, even if it is empty.
    known: BTreeSet<ResourceType>,
    refusals: Refusals,
    identity: Option<Arc<Entry>>,
    upstream: bool,
    pending: BTreeMap<ResourceType, VecDeque<Pending>>,
    envoy: Option<EnvoyView>,
    wordings: Wordings,
    /// Whether the Envoy that is connected has run all that was wanted once.
    serving: bool,
    nonces: u64,
}

impl Relay {
    /// Starts from the last-good set, if one was kept.
    pub fn new(last_good: Option<Cache>) -> Self {
        let known = if last_good.is_some() { ResourceType::ALL.into() } else { BTreeSet::new() };
        let good = last_good.unwrap_or_default();
        Self { wanted: good.clone(), good, known, ..Self::default() }
    }

    /// The last-good set.
    pub fn last_good(&self) -> &Cache {
        &self.good
    }

    /// Whether the last-good set is whole: everything that is wanted is in it or was refused, listeners included. A part
    /// of a set would make Envoy wait, at its next start, for what the part refers to.
    pub fn is_whole(&self) -> bool {
        let settled = |resource_type: ResourceType| {
            self.wanted.iter(resource_type).all(|(name, entry)| {
                let good =
                    self.good.get(resource_type, name).is_some_and(|good| good.version == entry.version);
                good || self.refusals.reason(resource_type, name, &entry.version).is_some()
            })
        };
        self.known.contains(&ResourceType::Listener) && ResourceType::ALL.into_iter().all(settled)
    }

    /// Whether Envoy serves: it is connected and has had all that it was to have, once. What changes later comes into
    /// force while it goes on serving.
    pub fn is_serving(&self) -> bool {
        self.serving
    }

    fn look_whether_serving(&mut self) {
        let Some(envoy) = &self.envoy else {
            self.serving = false;
            return;
        };
        let runs = |resource_type: ResourceType| {
            self.wanted.iter(resource_type).all(|(name, entry)| {
                !envoy.is_interested(resource_type, name)
                    || envoy.runs(resource_type, name, &entry.version)
                    || self.refusals.reason(resource_type, name, &entry.version).is_some()
            })
        };
        let has_identity = !envoy.is_interested(ResourceType::Secret, IDENTITY_SECRET)
            || self
                .identity
                .as_ref()
                .is_some_and(|own| envoy.runs(ResourceType::Secret, IDENTITY_SECRET, &own.version));
        let known = self.known.contains(&ResourceType::Listener);
        self.serving |= known && has_identity && ResourceType::ALL.into_iter().all(runs);
    }

    /// Whether Envoy refused something that is still wanted.
    pub fn has_refusals(&self) -> bool {
        !self.refusals.is_empty()
    }

    /// Takes an event; the actions are to be done in their order.
    pub fn handle(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut changed = false;
        match event {
            Event::UpstreamUp { node_id } => self.subscribe(&node_id, &mut actions),
            Event::UpstreamDown => self.forget_upstream(),
            Event::Upstream(response) => self.received(response, &mut actions),
            Event::EnvoyUp => {
                self.refusals.retry_good(&self.good);
                (self.envoy, self.serving) = (Some(EnvoyView::default()), false);
            }
            Event::EnvoyDown => self.envoy = None,
            Event::Envoy(request) => changed |= self.requested(request, &mut actions),
            Event::Identity(identity) => {
                self.refusals.forget_other_versions(
                    ResourceType::Secret,
                    IDENTITY_SECRET,
                    &self.wanted,
                    &self.good,
                );
                self.identity = identity;
            }
            Event::Retry => self.refusals.retry_all(),
        }
        changed |= self.settle();
        self.plan(&mut actions);
        // What needs nothing from Envoy is settled by planning alone.
        changed |= self.settle();
        self.answer(&mut actions);
        self.look_whether_serving();
        if changed {
            actions.push(Action::Save);
        }
        actions
    }

    fn targets(&self) -> Targets<'_> {
        Targets {
            wanted: &self.wanted,
            good: &self.good,
            refusals: &self.refusals,
            identity: self.identity.as_ref(),
            known: &self.known,
        }
    }

    fn forget_upstream(&mut self) {
        self.upstream = false;
        self.pending.clear();
    }

    /// Asks for everything, and says what is held, so that only differences come. What is known and not held has no version: it is
    /// sent again, or its removal is.
    fn subscribe(&mut self, node_id: &str, actions: &mut Vec<Action>) {
        self.forget_upstream();
        self.upstream = true;
        let targets = self.targets();
        for (index, resource_type) in ResourceType::ALL.into_iter().enumerate() {
            let held = self.wanted.iter(resource_type).map(|(name, _)| {
                let version = targets.held(resource_type, name).map(|entry| entry.version.as_str());
                (name.clone(), narrowing::upstream_version(version.unwrap_or_default()).to_owned())
            });
            actions.push(Action::Upstream(DeltaDiscoveryRequest {
                node: (index == 0).then(|| Node { id: node_id.to_owned(), ..Default::default() }),
                type_url: resource_type.type_url().into(),
                resource_names_subscribe: vec!["*".into()],
                initial_resource_versions: held.collect(),
                ..Default::default()
            }));
        }
    }

    /// Takes in a response of the control plane; its answer comes when Envoy has given one.
    fn received(&mut self, response: DeltaDiscoveryResponse, actions: &mut Vec<Action>) {
        if !self.upstream {
            return;
        }
        let Some(resource_type) = ResourceType::from_type_url(&response.type_url) else {
            let message = format!("this agent does not know resources of type {}", response.type_url);
            actions.push(Action::Upstream(answers::nack(&response.type_url, &response.nonce, message)));
            return;
        };
        // What this one may refer to came before, or there is none: a control plane need not send empty lists, but Envoy
        // would wait for them.
        self.known.extend(ResourceType::ALL.into_iter().filter(|earlier| *earlier <= resource_type));
        let mut pending = Pending::new(response.nonce);
        for resource in response.resources {
            let (name, version) = (resource.name, resource.version);
            let body = match resource.resource {
                _ if is_identity(resource_type, &name) => Err("the agent's own certificate has this name"),
                Some(body) if body.type_url == response.type_url => Ok(body),
                Some(_) => Err("the body is of another type than the response"),
                None => Err("it has no body"),
            };
            match body {
                Ok(body) => {
                    let entry = Arc::new(Entry { version: version.clone(), body });
                    if resource_type == ResourceType::Secret {
                        narrowing::replace_chains(&mut self.wanted, &name, &entry);
                    }
                    if self.wanted.insert(resource_type, &name, entry) {
                        self.refusals.forget_other_versions(resource_type, &name, &self.wanted, &self.good);
                    }
                    pending.add(name, version);
                }
                Err(reason) => pending.refuse(&name, reason),
            }
        }
        for name in response.removed_resources {
            self.wanted.remove(resource_type, &name);
            self.refusals.forget_other_versions(resource_type, &name, &self.wanted, &self.good);
            pending.remove(name);
        }
        self.pending.entry(resource_type).or_default().push_back(pending);
    }

    /// Takes in a request of Envoy. True: the last-good set changed.
    fn requested(&mut self, request: DeltaDiscoveryRequest, actions: &mut Vec<Action>) -> bool {
        let Some(resource_type) = ResourceType::from_type_url(&request.type_url) else {
            return false; // Nothing of it exists here; Envoy waits, as for any unknown name.
        };
        let Some(envoy) = &mut self.envoy else { return false };
        if resource_type == ResourceType::Secret
            && let Some(refused) = envoy.refuses(resource_type, &request)
        {
            self.wordings.change(refused.keys());
        }
        let mut changed = false;
        match envoy.request(resource_type, request) {
            Outcome::Nothing => {}
            Outcome::Accepted(adds) => {
                for (name, entry) in adds {
                    let was_refused = self.refusals.accept(resource_type, &name, &entry.version);
                    if is_identity(resource_type, &name) {
                        continue;
                    }
                    if was_refused && self.upstream {
                        actions.push(Action::Reconnect);
                    }
                    changed |= self.good.insert(resource_type, &name, entry);
                }
            }
            Outcome::Refused { name, version, mut message } => {
                let refused = (resource_type, name.as_str(), version.as_str());
                changed |= narrowing::close(&mut self.good, &mut self.wanted, refused);
                if narrowing::is_closed(&self.good, resource_type, &name) {
                    message.push_str(narrowing::CLOSED_NOTE);
                }
                let first = self.refusals.refuse(resource_type, &name, &version, &message);
                let orphan = !is_identity(resource_type, &name)
                    && !self
                        .pending
                        .get(&resource_type)
                        .is_some_and(|queue| queue.iter().any(|p| p.waits_for(&name, &version)));
                if first {
                    actions.push(Action::Refused { resource_type, name, message });
                    if orphan && self.upstream {
                        actions.push(Action::Reconnect);
                    }
                }
            }
        }
        changed
    }

    /// Moves to the last-good set what Envoy enforces or does not care for. True: that set changed.
    fn settle(&mut self) -> bool {
        let Some(envoy) = &self.envoy else { return false };
        let targets = self.targets();
        let mut take = Vec::new();
        let mut drop = Vec::new();
        for resource_type in ResourceType::ALL {
            let indifferent = envoy.interest_is_settled(resource_type, &targets);
            for (name, entry) in self.wanted.iter(resource_type) {
                let held =
                    self.good.get(resource_type, name).is_some_and(|good| good.version == entry.version);
                let refused = self.refusals.reason(resource_type, name, &entry.version).is_some();
                let unused = indifferent && !envoy.is_interested(resource_type, name);
                if !held && !refused && (unused || envoy.runs(resource_type, name, &entry.version)) {
                    take.push((resource_type, name.clone(), entry.clone()));
                }
            }
            for (name, _) in self.good.iter(resource_type) {
                let gone = targets.get(resource_type, name).is_none()
                    && self.wanted.get(resource_type, name).is_none();
                if gone && !envoy.holds(resource_type, name) {
                    drop.push((resource_type, name.clone()));
                }
            }
        }
        let changed = !take.is_empty() || !drop.is_empty();
        for (resource_type, name, entry) in take {
            self.good.insert(resource_type, &name, entry);
        }
        for (resource_type, name) in drop {
            self.good.remove(resource_type, &name);
            self.refusals.forget_other_versions(resource_type, &name, &self.wanted, &self.good);
        }
        changed
    }

    fn plan(&mut self, actions: &mut Vec<Action>) {
        let Some(mut envoy) = self.envoy.take() else { return };
        let mut nonces = self.nonces;
        let mut responses = plan::responses(&mut envoy, &self.targets(), &mut nonces);
        responses.iter_mut().for_each(|response| self.wordings.apply(response));
        self.nonces = nonces;
        actions.extend(responses.into_iter().map(Action::Envoy));
        self.envoy = Some(envoy);
    }

    /// Answers the control plane's responses that are decided, in their order within a type.
    fn answer(&mut self, actions: &mut Vec<Action>) {
        let targets = Targets {
            wanted: &self.wanted,
            good: &self.good,
            refusals: &self.refusals,
            identity: None,
            known: &self.known,
        };
        for (resource_type, queue) in &mut self.pending {
            while let Some(request) = queue.front().and_then(|first| first.answer(*resource_type, &targets)) {
                queue.pop_front();
                actions.push(Action::Upstream(request));
            }
        }
    }
}
