//! One stream of Envoy: what it subscribed to, what it accepted, what is on its way.
//!
//! Invariant: at most one response of a type is on its way, so an answer leaves no doubt about what it answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ursa_envoy::ResourceType;
use ursa_envoy::wire::DeltaDiscoveryRequest;

use super::targets::{Targets, is_identity};
use crate::xds::cache::Entry;

/// Resources by name.
pub(super) type Adds = BTreeMap<String, Arc<Entry>>;

/// What a request of Envoy says about the response on its way.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nothing, or that the culprit is still looked for.
    Nothing,
    /// These are in force.
    Accepted(Adds),
    /// This one is to blame.
    Refused { name: String, version: String, message: String },
}

/// A response that Envoy has not answered.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) nonce: String,
    pub(super) adds: Adds,
    pub(super) removes: BTreeSet<String>,
    /// Names that something in Envoy warms for.
    pub(super) warming: BTreeSet<String>,
}

/// One type in one stream.
#[derive(Debug, Default)]
pub(super) struct TypeView {
    /// Envoy has asked for the type.
    pub(super) requested: bool,
    /// Envoy takes all names.
    pub(super) wildcard: bool,
    /// Envoy has had a response.
    pub(super) answered: bool,
    /// Names that Envoy asked for.
    pub(super) names: BTreeSet<String>,
    /// What Envoy accepted: name → version.
    pub(super) acked: BTreeMap<String, String>,
    /// Names and versions that were in a response that Envoy refused as a whole, of which it may have taken some;
    /// `None`: there were several such versions.
    doubtful: BTreeMap<String, Option<String>>,
    /// To be sent even if Envoy has it.
    pub(super) resend: BTreeSet<String>,
    /// After a refusal of several: the portions in which they are tried again.
    pub(super) portions: VecDeque<BTreeSet<String>>,
    pub(super) in_flight: Option<InFlight>,
}

impl TypeView {
    pub(super) fn is_interested(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// What is to be sent.
    pub(super) fn adds(&self, resource_type: ResourceType, targets: &Targets) -> Adds {
        let mut names: BTreeSet<&str> = self.names.iter().map(String::as_str).collect();
        if self.wildcard {
            names.extend(targets.names(resource_type));
        }
        names
            .into_iter()
            .filter_map(|name| Some((name, targets.get(resource_type, name)?)))
            .filter(|(name, entry)| {
                self.resend.contains(*name)
                    || self.doubtful.contains_key(*name)
                    || self.acked.get(*name) != Some(&entry.version)
            })
            .map(|(name, entry)| (name.to_owned(), entry.clone()))
            .collect()
    }

    /// What is to be taken away.
    pub(super) fn removes(&self, resource_type: ResourceType, targets: &Targets) -> BTreeSet<String> {
        // Without mutual TLS nothing refers to the certificate; taking it from what still does would break that.
        let gone =
            |name: &&String| !is_identity(resource_type, name) && targets.get(resource_type, name).is_none();
        self.acked.keys().chain(self.doubtful.keys()).filter(gone).cloned().collect()
    }

    /// Nothing to add is left or on its way.
    pub(super) fn is_quiet(&self, resource_type: ResourceType, targets: &Targets) -> bool {
        self.in_flight.is_none() && self.portions.is_empty() && self.adds(resource_type, targets).is_empty()
    }

    /// Nothing is left that something in Envoy warms for.
    pub(super) fn is_warm(&self, resource_type: ResourceType, targets: &Targets) -> bool {
        let cold = |name: &String| {
            (self.resend.contains(name) || !self.acked.contains_key(name))
                && targets.get(resource_type, name).is_some()
        };
        self.in_flight.as_ref().is_none_or(|sent| sent.warming.is_empty()) && !self.names.iter().any(cold)
    }

    fn subscribe(&mut self, resource_type: ResourceType, request: &DeltaDiscoveryRequest) {
        let by_name = !takes_wildcard(resource_type);
        let first = !self.requested;
        self.requested = true;
        if first {
            self.wildcard = !by_name && request.resource_names_subscribe.is_empty();
            // A stream that was cut: Envoy says what it runs.
            self.acked.extend(request.initial_resource_versions.clone());
        }
        for name in &request.resource_names_subscribe {
            if name == "*" {
                self.wildcard |= !by_name;
                continue;
            }
            self.names.insert(name.clone());
            if first && self.acked.contains_key(name) {
                continue;
            }
            // Envoy wants it (again), whatever was sent before it asked.
            self.acked.remove(name);
            if self.in_flight.as_ref().is_some_and(|sent| sent.adds.contains_key(name)) {
                self.resend.insert(name.clone());
            }
        }
        for name in &request.resource_names_unsubscribe {
            if name == "*" {
                self.wildcard = false;
            }
            self.names.remove(name);
            self.resend.remove(name);
        }
        let Self { acked, doubtful, names, wildcard, .. } = self;
        acked.retain(|name, _| *wildcard || names.contains(name));
        doubtful.retain(|name, _| *wildcard || names.contains(name));
    }

    fn accepted(&mut self, InFlight { adds, removes, .. }: InFlight) -> Outcome {
        for (name, entry) in &adds {
            self.doubtful.remove(name);
            if self.is_interested(name) {
                self.acked.insert(name.clone(), entry.version.clone());
            }
        }
        self.forget(&removes);
        Outcome::Accepted(adds)
    }

    fn forget(&mut self, names: &BTreeSet<String>) {
        for name in names {
            self.acked.remove(name);
            self.doubtful.remove(name);
        }
    }

    fn refused(
        &mut self,
        resource_type: ResourceType,
        InFlight { adds, removes, warming, .. }: InFlight,
        message: &str,
    ) -> Outcome {
        // What waits for them still does.
        self.resend.extend(warming.into_iter().filter(|name| self.names.contains(name)));
        let mut names: BTreeSet<String> = adds.keys().cloned().collect();
        match names.len() {
            0 => {
                // Envoy knows no reason to keep what is taken away; asking again would not end.
                self.forget(&removes);
                return Outcome::Nothing;
            }
            1 => {
                let (name, entry) = adds.into_iter().next().expect("there is one");
                // This version is not in place: if no other may be, the accepted one is.
                if self.doubtful.get(&name).is_some_and(|version| version.as_ref() == Some(&entry.version)) {
                    self.doubtful.remove(&name);
                }
                // Envoy gives listeners and clusters to come the secret that it refused, until it has another.
                if resource_type == ResourceType::Secret && self.is_interested(&name) {
                    self.resend.insert(name.clone());
                }
                return Outcome::Refused {
                    name,
                    version: entry.version.clone(),
                    message: message.to_owned(),
                };
            }
            _ => {}
        }
        // Envoy may have taken some of them.
        for (name, entry) in &adds {
            if self.is_interested(name) {
                self.doubtful
                    .entry(name.clone())
                    .and_modify(|version| *version = version.take_if(|version| *version == entry.version))
                    .or_insert_with(|| Some(entry.version.clone()));
            }
        }
        let named: BTreeSet<String> = names.extract_if(.., |name| message.contains(name.as_str())).collect();
        if named.is_empty() || (names.is_empty() && named.len() > 1) {
            let mut all: Vec<_> = names.into_iter().chain(named).collect();
            let half = all.split_off(all.len() / 2);
            self.portions.push_front(half.into_iter().collect());
            self.portions.push_front(all.into_iter().collect());
        } else {
            for name in named {
                self.portions.push_front([name].into());
            }
            self.portions.push_front(names);
        }
        Outcome::Nothing
    }
}

/// Types of which Envoy takes all names.
pub(super) fn takes_wildcard(resource_type: ResourceType) -> bool {
    matches!(resource_type, ResourceType::Cluster | ResourceType::Listener)
}

/// One stream of Envoy.
#[derive(Debug, Default)]
pub(super) struct EnvoyView {
    types: [TypeView; ResourceType::ALL.len()],
}

impl EnvoyView {
    pub(super) fn of(&self, resource_type: ResourceType) -> &TypeView {
        &self.types[resource_type as usize]
    }

    pub(super) fn of_mut(&mut self, resource_type: ResourceType) -> &mut TypeView {
        &mut self.types[resource_type as usize]
    }

    /// What is on its way, if this request refuses it.
    pub(super) fn refuses(
        &self,
        resource_type: ResourceType,
        request: &DeltaDiscoveryRequest,
    ) -> Option<&Adds> {
        let sent = self.of(resource_type).in_flight.as_ref()?;
        (request.error_detail.is_some() && sent.nonce == request.response_nonce).then_some(&sent.adds)
    }

    /// Takes in a request.
    pub(super) fn request(&mut self, resource_type: ResourceType, request: DeltaDiscoveryRequest) -> Outcome {
        let view = self.of_mut(resource_type);
        view.subscribe(resource_type, &request);
        let answers = |sent: &mut InFlight| sent.nonce == request.response_nonce;
        let Some(sent) = view.in_flight.take_if(answers) else { return Outcome::Nothing };
        match request.error_detail {
            None => view.accepted(sent),
            Some(error) => view.refused(resource_type, sent, &error.message),
        }
    }

    /// Whether Envoy wants this resource, or will as soon as it asks for the type.
    pub(super) fn is_interested(&self, resource_type: ResourceType, name: &str) -> bool {
        takes_wildcard(resource_type) || self.of(resource_type).is_interested(name)
    }

    /// Whether Envoy runs exactly this version.
    pub(super) fn runs(&self, resource_type: ResourceType, name: &str, version: &str) -> bool {
        let view = self.of(resource_type);
        let on_its_way = view.in_flight.as_ref().is_some_and(|sent| sent.adds.contains_key(name));
        !on_its_way
            && !view.doubtful.contains_key(name)
            && view.acked.get(name).is_some_and(|acked| acked == version)
    }

    /// Whether Envoy has, or is about to have, any version of this.
    pub(super) fn holds(&self, resource_type: ResourceType, name: &str) -> bool {
        let view = self.of(resource_type);
        view.acked.contains_key(name)
            || view.doubtful.contains_key(name)
            || view
                .in_flight
                .as_ref()
                .is_some_and(|sent| sent.adds.contains_key(name) || sent.removes.contains(name))
    }

    /// Whether names of this type that Envoy did not ask for are of no use to it: it has all that could refer to them.
    pub(super) fn interest_is_settled(&self, resource_type: ResourceType, targets: &Targets) -> bool {
        let settled = |referrer: ResourceType| {
            let view = self.of(referrer);
            view.requested
                && (view.answered || !targets.known.contains(&referrer))
                && view.is_quiet(referrer, targets)
        };
        match resource_type {
            ResourceType::Cluster | ResourceType::Listener => false,
            ResourceType::Endpoint => settled(ResourceType::Cluster),
            ResourceType::Route => settled(ResourceType::Listener),
            ResourceType::Secret => settled(ResourceType::Cluster) && settled(ResourceType::Listener),
        }
    }
}
