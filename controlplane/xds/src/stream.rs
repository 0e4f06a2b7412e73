//! The delta xDS protocol of one stream, without I/O: requests and snapshots in, responses out.
//!
//! Additions go out in the order cluster, endpoint, secret, listener, route, removals only after all additions are
//! acknowledged, the other way round. Of each type at most one response is on its way, so that a slow client gets
//! the newest state next, not every state in between.
//! Source: <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#eventual-consistency-considerations>.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ursa_envoy::wire::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, WireResource};
use ursa_envoy::{Resource, ResourceKey, ResourceSet, ResourceType};

/// What the client said of a response.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// A first request, a subscription, or an answer to nothing that is on its way.
    None,
    /// It took everything.
    Acknowledged,
    /// It refused; these resources, as (key, version), with its words.
    Refused {
        /// What it refused.
        resources: Vec<(ResourceKey, String)>,
        /// Why.
        message: String,
    },
}

#[derive(Debug, Default)]
struct TypeState {
    subscribed: bool,
    /// Name → version that the client has, or was sent and may have refused, where that is not the target's; `None`: it has
    /// none.
    behind: BTreeMap<String, Option<String>>,
    in_flight: Option<InFlight>,
}

impl TypeState {
    /// Takes note of all that the client has, and of all that it is to have.
    fn compare(&mut self, mut held: BTreeMap<String, Option<String>>, wanted: &[Arc<Resource>]) {
        for resource in wanted {
            let held = held.remove(&resource.key.name).flatten();
            self.holds(&resource.key.name, held, Some(resource));
        }
        for (name, held) in held {
            self.holds(&name, held, None);
        }
    }

    /// Takes note of what the client has of a name, and what it is to have.
    fn holds(&mut self, name: &str, held: Option<String>, wanted: Option<&Arc<Resource>>) {
        if held.as_ref() == wanted.map(|resource| &resource.version) {
            self.behind.remove(name);
        } else {
            self.behind.insert(name.to_owned(), held);
        }
    }
}

#[derive(Debug)]
struct InFlight {
    nonce: String,
    sent: Vec<(String, String)>,
}

/// The state of one stream.
#[derive(Debug, Default)]
pub struct DeltaStream {
    types: HashMap<ResourceType, TypeState>,
    /// `None`: not known yet, which is not the same as nothing.
    target: Option<Arc<ResourceSet>>,
    nonce: u64,
}

impl DeltaStream {
    /// Sets what the client is to have.
    pub fn aim(&mut self, target: Arc<ResourceSet>) {
        match &self.target {
            None => {
                for (resource_type, state) in &mut self.types {
                    let held = std::mem::take(&mut state.behind);
                    state.compare(held, target.of_type(*resource_type));
                }
            }
            Some(before) => {
                for (old, new) in before.differences(&target) {
                    let Some(resource) = old.or(new) else { continue };
                    let ResourceKey { resource_type, name } = &resource.key;
                    let Some(state) = self.types.get_mut(resource_type) else { continue };
                    let held = state.behind.get(name).cloned();
                    let held = held.unwrap_or_else(|| old.map(|resource| resource.version.clone()));
                    state.holds(name, held, new);
                }
            }
        }
        self.target = Some(target);
    }

    /// Takes a request. Resource names in it are not looked at: a client of Ursa gets all that is its own.
    pub fn request(&mut self, request: &DeltaDiscoveryRequest) -> Option<(ResourceType, Answer)> {
        let resource_type = ResourceType::from_type_url(&request.type_url)?;
        let state = self.types.entry(resource_type).or_default();
        if !state.subscribed {
            state.subscribed = true;
            let said = request.initial_resource_versions.iter();
            let held = said.map(|(name, version)| (name.clone(), Some(version.clone()))).collect();
            match &self.target {
                Some(target) => state.compare(held, target.of_type(resource_type)),
                None => state.behind = held,
            }
        }
        let Some(in_flight) = state.in_flight.take_if(|sent| sent.nonce == request.response_nonce) else {
            return Some((resource_type, Answer::None));
        };
        let answer = match &request.error_detail {
            None => Answer::Acknowledged,
            Some(error) => {
                let key = |name: String| ResourceKey { resource_type, name };
                let refused = guilty(in_flight.sent, &error.message).into_iter();
                let resources = refused.map(|(name, version)| (key(name), version)).collect();
                Answer::Refused { resources, message: error.message.clone() }
            }
        };
        Some((resource_type, answer))
    }

    /// Responses that may go out now; none before it is known what the client is to have.
    pub fn responses(&mut self) -> Vec<DeltaDiscoveryResponse> {
        let mut out = Vec::new();
        let Some(target) = self.target.clone() else { return out };
        for resource_type in ResourceType::ALL {
            let Some(state) = self.types.get_mut(&resource_type) else { continue };
            if state.in_flight.is_some() || state.behind.is_empty() {
                continue;
            }
            let missing = in_target(&target, resource_type, state).1;
            if !missing.is_empty() {
                out.push(Self::send(state, &mut self.nonce, resource_type, &missing, Vec::new()));
            }
        }
        if out.is_empty() && self.types.values().all(|state| state.in_flight.is_none()) {
            for resource_type in ResourceType::ALL.into_iter().rev() {
                let Some(state) = self.types.get_mut(&resource_type) else { continue };
                let superfluous = in_target(&target, resource_type, state).0;
                if !superfluous.is_empty() {
                    out.push(Self::send(state, &mut self.nonce, resource_type, &[], superfluous));
                    // What referred to it must be gone first.
                    break;
                }
            }
        }
        out
    }

    /// Whether the client has all of the target, nothing more, and has acknowledged it.
    pub fn is_settled(&self) -> bool {
        let is_settled = |resource_type| {
            let state = self.types.get(&resource_type);
            state.is_some_and(|state| state.in_flight.is_none() && state.behind.is_empty())
        };
        self.target.is_some() && ResourceType::ALL.into_iter().all(is_settled)
    }

    fn send(
        state: &mut TypeState,
        nonce: &mut u64,
        resource_type: ResourceType,
        resources: &[Arc<Resource>],
        removed: Vec<String>,
    ) -> DeltaDiscoveryResponse {
        *nonce += 1;
        for name in &removed {
            state.behind.remove(name);
        }
        let mut sent = Vec::with_capacity(resources.len());
        for resource in resources {
            state.behind.remove(&resource.key.name);
            sent.push((resource.key.name.clone(), resource.version.clone()));
        }
        state.in_flight = Some(InFlight { nonce: nonce.to_string(), sent });
        DeltaDiscoveryResponse {
            type_url: resource_type.type_url().to_owned(),
            nonce: nonce.to_string(),
            resources: resources
                .iter()
                .map(|resource| WireResource {
                    name: resource.key.name.clone(),
                    version: resource.version.clone(),
                    resource: Some(resource.body.clone()),
                    ..Default::default()
                })
                .collect(),
            removed_resources: removed,
            ..Default::default()
        }
    }
}

/// Of the names with which a client is behind: those that it is not to have, and what it is to have of the others.
fn in_target(
    target: &ResourceSet,
    resource_type: ResourceType,
    state: &TypeState,
) -> (Vec<String>, Vec<Arc<Resource>>) {
    let (mut superfluous, mut missing) = (Vec::new(), Vec::new());
    for name in state.behind.keys() {
        match target.get(&ResourceKey { resource_type, name: name.clone() }) {
            Some(resource) => missing.push(resource.clone()),
            None => superfluous.push(name.clone()),
        }
    }
    (superfluous, missing)
}

/// Which of the resources were refused. An agent says so a line each, `NAME: REASON`; where none is named, all were.
fn guilty(sent: Vec<(String, String)>, message: &str) -> Vec<(String, String)> {
    let named = |name: &str| {
        message.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(": ")))
    };
    if sent.iter().any(|(name, _)| named(name)) {
        sent.into_iter().filter(|(name, _)| named(name)).collect()
    } else {
        sent
    }
}

#[cfg(test)]
mod tests {
    use ursa_envoy::wire::{Any, WireStatus};

    use super::*;

    fn set(resources: &[(ResourceType, &str, &str)]) -> Arc<ResourceSet> {
        let resource = |(resource_type, name, version): &(ResourceType, &str, &str)| {
            let key = ResourceKey { resource_type: *resource_type, name: (*name).into() };
            Arc::new(Resource { key, version: (*version).into(), body: Any::default() })
        };
        Arc::new(resources.iter().map(resource).collect())
    }

    fn subscribe_all(stream: &mut DeltaStream) {
        for resource_type in ResourceType::ALL {
            let request =
                DeltaDiscoveryRequest { type_url: resource_type.type_url().into(), ..Default::default() };
            assert_eq!(stream.request(&request), Some((resource_type, Answer::None)));
        }
    }

    fn answer(stream: &mut DeltaStream, response: &DeltaDiscoveryResponse, error: Option<&str>) -> Answer {
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: error.map(|message| WireStatus { message: message.into(), ..Default::default() }),
            ..Default::default()
        };
        stream.request(&request).unwrap().1
    }

    /// (type, names added, names removed) of each response.
    fn sent(responses: &[DeltaDiscoveryResponse]) -> Vec<(ResourceType, Vec<&str>, Vec<&str>)> {
        let names = |r: &DeltaDiscoveryResponse| ResourceType::from_type_url(&r.type_url).unwrap();
        responses
            .iter()
            .map(|r| {
                let added = r.resources.iter().map(|r| r.name.as_str()).collect();
                (names(r), added, r.removed_resources.iter().map(String::as_str).collect())
            })
            .collect()
    }

    use ResourceType::{Cluster, Endpoint, Listener};

    #[test]
    fn additions_go_out_in_order_and_an_unchanged_target_is_silent() {
        let mut stream = DeltaStream::default();
        stream.aim(set(&[(Listener, "l", "1"), (Endpoint, "c", "1"), (Cluster, "c", "1")]));
        assert!(stream.responses().is_empty(), "nothing before a subscription");
        subscribe_all(&mut stream);
        let responses = stream.responses();
        let expected =
            [(Cluster, vec!["c"], vec![]), (Endpoint, vec!["c"], vec![]), (Listener, vec!["l"], vec![])];
        assert_eq!(sent(&responses), expected);
        assert!(!stream.is_settled());
        for response in &responses {
            assert_eq!(answer(&mut stream, response, None), Answer::Acknowledged);
        }
        assert!(stream.is_settled());
        assert!(stream.responses().is_empty());
    }

    #[test]
    fn a_removal_waits_until_what_replaces_it_is_acknowledged() {
        let mut stream = DeltaStream::default();
        subscribe_all(&mut stream);
        stream.aim(set(&[(Listener, "l", "1"), (Cluster, "old", "1")]));
        for response in stream.responses() {
            answer(&mut stream, &response, None);
        }
        stream.aim(set(&[(Listener, "l", "2"), (Cluster, "new", "1")]));
        let responses = stream.responses();
        assert_eq!(sent(&responses), [(Cluster, vec!["new"], vec![]), (Listener, vec!["l"], vec![])]);
        answer(&mut stream, &responses[0], None);
        assert!(stream.responses().is_empty(), "the listener may still use the old cluster");
        answer(&mut stream, &responses[1], None);
        let responses = stream.responses();
        assert_eq!(sent(&responses), [(Cluster, vec![], vec!["old"])]);
        answer(&mut stream, &responses[0], None);
        assert!(stream.is_settled());
    }

    #[test]
    fn a_slow_client_gets_the_newest_state_next() {
        let mut stream = DeltaStream::default();
        subscribe_all(&mut stream);
        stream.aim(set(&[(Cluster, "c", "1")]));
        let first = stream.responses();
        for version in ["2", "3", "4"] {
            stream.aim(set(&[(Cluster, "c", version)]));
            assert!(stream.responses().is_empty());
        }
        answer(&mut stream, &first[0], None);
        let next = stream.responses();
        assert_eq!(next[0].resources[0].version, "4");
    }

    #[test]
    fn a_client_that_comes_back_gets_only_what_it_lacks() {
        let mut stream = DeltaStream::default();
        stream.aim(set(&[(Cluster, "a", "1"), (Cluster, "b", "2")]));
        let held = [("a", "1"), ("b", "1"), ("gone", "1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        stream.request(&DeltaDiscoveryRequest {
            type_url: Cluster.type_url().into(),
            initial_resource_versions: held.into(),
            ..Default::default()
        });
        let responses = stream.responses();
        assert_eq!(sent(&responses), [(Cluster, vec!["b"], vec![])]);
        answer(&mut stream, &responses[0], None);
        assert_eq!(sent(&stream.responses()), [(Cluster, vec![], vec!["gone"])]);
    }

    #[test]
    fn a_client_that_comes_back_loses_nothing_before_it_is_known_what_it_is_to_have() {
        let mut stream = DeltaStream::default();
        for resource_type in ResourceType::ALL {
            stream.request(&DeltaDiscoveryRequest {
                type_url: resource_type.type_url().into(),
                initial_resource_versions: [("a".to_owned(), "1".to_owned())].into(),
                ..Default::default()
            });
            assert_eq!(sent(&stream.responses()), []);
        }
        assert!(!stream.is_settled());
        stream.aim(set(&ResourceType::ALL.map(|resource_type| (resource_type, "a", "1"))));
        assert_eq!(sent(&stream.responses()), []);
        assert!(stream.is_settled());
    }

    #[test]
    fn what_was_refused_is_named_and_not_sent_again_until_it_changes() {
        let mut stream = DeltaStream::default();
        subscribe_all(&mut stream);
        stream.aim(set(&[(Cluster, "bad", "1")]));
        let responses = stream.responses();
        let key = ResourceKey { resource_type: Cluster, name: "bad".into() };
        let refused = Answer::Refused { resources: vec![(key, "1".into())], message: "no".into() };
        assert_eq!(answer(&mut stream, &responses[0], Some("no")), refused);
        assert!(stream.responses().is_empty());
        stream.aim(set(&[(Cluster, "bad", "2")]));
        assert_eq!(sent(&stream.responses()), [(Cluster, vec!["bad"], vec![])]);
    }

    #[test]
    fn of_several_only_those_that_the_agent_names_are_refused() {
        let mut stream = DeltaStream::default();
        subscribe_all(&mut stream);
        stream.aim(set(&[(Cluster, "a", "1"), (Cluster, "ab", "1")]));
        let responses = stream.responses();
        let Answer::Refused { resources, .. } = answer(&mut stream, &responses[0], Some("ab: no such thing"))
        else {
            panic!("it was refused");
        };
        let names: Vec<_> = resources.iter().map(|(key, _)| key.name.as_str()).collect();
        assert_eq!(names, ["ab"]);
    }

    #[test]
    fn an_answer_to_an_older_response_acknowledges_nothing() {
        let mut stream = DeltaStream::default();
        subscribe_all(&mut stream);
        stream.aim(set(&[(Cluster, "c", "1")]));
        let mut stale = stream.responses().remove(0);
        stale.nonce = "0".into();
        assert_eq!(answer(&mut stream, &stale, None), Answer::None);
        assert!(!stream.is_settled());
    }
}
