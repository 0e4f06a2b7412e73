//! The relay between a control plane and an Envoy that both do what the protocol allows, in any interleaving.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ursa_envoy::ResourceType::{Cluster, Endpoint, Listener, Route, Secret};
use ursa_envoy::wire::{Any, WireResource, WireStatus};

use super::tests::entry;
use super::*;

type Versions = BTreeMap<String, String>;

/// Versions that begin so are refused by Envoy.
const BAD: &str = "bad";

/// A control plane: sends differences to what the agent holds.
#[derive(Default)]
struct Plane {
    state: BTreeMap<ResourceType, Versions>,
    /// What the agent was sent, while there is a stream.
    sent: BTreeMap<ResourceType, Versions>,
    connected: bool,
    nonces: u64,
    unanswered: BTreeMap<ResourceType, VecDeque<String>>,
    refused: BTreeMap<ResourceType, String>,
}

impl Plane {
    fn push(&mut self, resource_type: ResourceType, first: bool) -> Option<Event> {
        let state = self.state.entry(resource_type).or_default().clone();
        let sent = self.sent.insert(resource_type, state.clone()).unwrap_or_default();
        let adds: Vec<_> = state.iter().filter(|(name, version)| sent.get(*name) != Some(version)).collect();
        let removes: Vec<_> = sent.keys().filter(|name| !state.contains_key(*name)).cloned().collect();
        if adds.is_empty() && removes.is_empty() && !first {
            return None;
        }
        self.nonces += 1;
        let nonce = self.nonces.to_string();
        self.unanswered.entry(resource_type).or_default().push_back(nonce.clone());
        Some(Event::Upstream(DeltaDiscoveryResponse {
            type_url: resource_type.type_url().into(),
            nonce,
            resources: adds
                .into_iter()
                .map(|(name, version)| resource(resource_type, name, version))
                .collect(),
            removed_resources: removes,
            ..Default::default()
        }))
    }

    fn hears(&mut self, request: DeltaDiscoveryRequest) -> Option<Event> {
        let resource_type = ResourceType::from_type_url(&request.type_url).unwrap();
        if request.response_nonce.is_empty() {
            assert_eq!(request.resource_names_subscribe, ["*"]);
            self.sent.insert(resource_type, request.initial_resource_versions.into_iter().collect());
            return self.push(resource_type, true);
        }
        let expected = self.unanswered.get_mut(&resource_type).and_then(VecDeque::pop_front);
        assert_eq!(Some(request.response_nonce), expected, "answers come once, in order");
        if let Some(error) = request.error_detail {
            self.refused.insert(resource_type, error.message);
        }
        None
    }
}

fn resource(resource_type: ResourceType, name: &str, version: &str) -> WireResource {
    WireResource {
        name: name.into(),
        version: version.into(),
        resource: Some(entry(resource_type, version).body.clone()),
        ..Default::default()
    }
}

/// An Envoy: asks for the endpoints and secrets of its clusters, and for the routes of its listeners.
#[derive(Default)]
struct Envoy {
    runs: BTreeMap<ResourceType, Versions>,
    asked: BTreeMap<ResourceType, BTreeSet<String>>,
    /// Clusters without endpoints since they changed.
    warming: BTreeSet<String>,
    /// Takes the good ones of a response that holds a bad one, too.
    partial: bool,
    /// Each secret as it came last, also if it was refused: the same again is no news.
    known: BTreeMap<String, Any>,
}

impl Envoy {
    fn new(partial: bool) -> (Self, Vec<DeltaDiscoveryRequest>) {
        let ask = |resource_type: ResourceType| DeltaDiscoveryRequest {
            type_url: resource_type.type_url().into(),
            ..Default::default()
        };
        (Self { partial, ..Self::default() }, vec![ask(Cluster), ask(Listener)])
    }

    /// What Envoy looks at: of secrets only those that are not as they came last.
    fn news<'a>(&mut self, response: &'a DeltaDiscoveryResponse) -> Vec<&'a WireResource> {
        let mut news = Vec::new();
        let secrets = response.type_url == Secret.type_url();
        for resource in &response.resources {
            let body = resource.resource.clone().unwrap();
            if secrets && self.known.insert(resource.name.clone(), body.clone()) == Some(body) {
                continue;
            }
            news.push(resource);
            if secrets && !self.partial && resource.version.starts_with(BAD) {
                break;
            }
        }
        news
    }

    fn hears(&mut self, response: DeltaDiscoveryResponse) -> Vec<DeltaDiscoveryRequest> {
        let resource_type = ResourceType::from_type_url(&response.type_url).unwrap();
        let news = self.news(&response);
        let bad = news.iter().any(|resource| resource.version.starts_with(BAD));
        let runs = self.runs.entry(resource_type).or_default();
        if !bad || self.partial || resource_type == Secret {
            for name in &response.removed_resources {
                runs.remove(name);
                self.warming.remove(name);
            }
            for resource in news.into_iter().filter(|resource| !resource.version.starts_with(BAD)) {
                let changed = runs.insert(resource.name.clone(), resource.version.clone());
                match resource_type {
                    Cluster if changed.as_ref() != Some(&resource.version) => {
                        self.warming.insert(resource.name.clone());
                    }
                    Endpoint => {
                        self.warming.remove(&resource.name);
                    }
                    _ => {}
                }
            }
        }
        let mut requests = Vec::new();
        for (referrer, of) in [(Cluster, Endpoint), (Cluster, Secret), (Listener, Route)] {
            if referrer != resource_type {
                continue;
            }
            let now: BTreeSet<String> = self.runs[&referrer].keys().cloned().collect();
            let before = self.asked.insert(of, now.clone()).unwrap_or_default();
            for gone in before.difference(&now) {
                self.runs.entry(of).or_default().remove(gone);
                if of == Secret {
                    self.known.remove(gone);
                }
            }
            if now != before {
                requests.push(DeltaDiscoveryRequest {
                    type_url: of.type_url().into(),
                    resource_names_subscribe: now.difference(&before).cloned().collect(),
                    resource_names_unsubscribe: before.difference(&now).cloned().collect(),
                    ..Default::default()
                });
            }
        }
        requests.push(DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            error_detail: bad.then(|| WireStatus { message: "no".into(), ..Default::default() }),
            ..Default::default()
        });
        requests
    }
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// A resource changes, or goes (`None`).
    Change(ResourceType, usize, Option<String>),
    /// One message of Envoy, or one to it, is delivered.
    ToEnvoy,
    FromEnvoy,
    EnvoyDies,
    PlaneGoes,
    PlaneComes,
    Retry,
    /// The agent starts again with what it kept.
    AgentRestarts,
}

const NAMES: [&str; 3] = ["a", "ab", "c"];

fn step() -> impl Strategy<Value = Step> {
    let version = prop_oneof![
        4 => (0..4_u8).prop_map(|n| Some(format!("v{n}"))),
        1 => (0..2_u8).prop_map(|n| Some(format!("{BAD}{n}"))),
        2 => Just(None),
    ];
    let change = (prop::sample::select(ResourceType::ALL.to_vec()), 0..NAMES.len(), version)
        .prop_map(|(resource_type, name, version)| Step::Change(resource_type, name, version));
    prop_oneof![
        8 => change,
        8 => Just(Step::ToEnvoy),
        8 => Just(Step::FromEnvoy),
        1 => Just(Step::EnvoyDies),
        1 => Just(Step::PlaneGoes),
        2 => Just(Step::PlaneComes),
        1 => Just(Step::Retry),
        1 => Just(Step::AgentRestarts),
    ]
}

struct World {
    relay: Relay,
    plane: Plane,
    envoy: Envoy,
    to_envoy: VecDeque<DeltaDiscoveryResponse>,
    from_envoy: VecDeque<DeltaDiscoveryRequest>,
    partial: bool,
    kept: Cache,
}

impl World {
    fn new(partial: bool) -> Self {
        let mut world = Self {
            relay: Relay::new(None),
            plane: Plane::default(),
            envoy: Envoy::default(),
            to_envoy: VecDeque::new(),
            from_envoy: VecDeque::new(),
            partial,
            kept: Cache::default(),
        };
        world.start_envoy();
        world
    }

    fn start_envoy(&mut self) {
        self.to_envoy.clear();
        let (envoy, requests) = Envoy::new(self.partial);
        self.envoy = envoy;
        self.from_envoy = requests.into();
        self.happens(Event::EnvoyUp);
    }

    fn happens(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut cut = false;
            for action in self.relay.handle(event) {
                match action {
                    Action::Upstream(_) if cut => {}
                    Action::Upstream(request) => events.extend(self.plane.hears(request)),
                    Action::Envoy(response) => self.to_envoy.push_back(response),
                    Action::Save => self.kept = self.relay.last_good().clone(),
                    Action::Reconnect => {
                        assert!(self.plane.connected);
                        self.plane.unanswered.clear();
                        cut = true;
                        events.push_back(Event::UpstreamDown);
                        events.push_back(Event::UpstreamUp { node_id: "n".into() });
                    }
                    Action::Refused { .. } => {}
                }
            }
        }
    }

    fn connect(&mut self) {
        self.plane.connected = true;
        self.plane.unanswered.clear();
        self.happens(Event::UpstreamUp { node_id: "n".into() });
    }

    fn disconnect(&mut self) {
        self.plane.connected = false;
        self.plane.unanswered.clear();
        self.happens(Event::UpstreamDown);
    }

    fn deliver_to_envoy(&mut self) -> bool {
        let Some(response) = self.to_envoy.pop_front() else { return false };
        self.from_envoy.extend(self.envoy.hears(response));
        true
    }

    fn deliver_from_envoy(&mut self) -> bool {
        let Some(request) = self.from_envoy.pop_front() else { return false };
        self.happens(Event::Envoy(request));
        true
    }

    fn steps(&mut self, step: Step) {
        match step {
            Step::Change(resource_type, name, version) => {
                let state = self.plane.state.entry(resource_type).or_default();
                match version {
                    Some(version) => state.insert(NAMES[name].into(), version),
                    None => state.remove(NAMES[name]),
                };
                if self.plane.connected
                    && let Some(event) = self.plane.push(resource_type, false)
                {
                    self.happens(event);
                }
            }
            Step::ToEnvoy => drop(self.deliver_to_envoy()),
            Step::FromEnvoy => drop(self.deliver_from_envoy()),
            Step::EnvoyDies => self.start_envoy(),
            Step::PlaneGoes => self.disconnect(),
            Step::PlaneComes => self.connect(),
            Step::Retry => self.happens(Event::Retry),
            Step::AgentRestarts => {
                self.plane.connected = false;
                let bytes = self.kept.encode("p");
                assert_eq!(&self.kept, self.relay.last_good());
                self.relay = Relay::new(Some(Cache::decode(&bytes, "p").unwrap()));
                self.start_envoy();
            }
        }
    }

    fn quiet(&mut self) {
        for _ in 0..10_000 {
            if !(self.deliver_to_envoy() | self.deliver_from_envoy()) {
                return;
            }
        }
        panic!("relay and Envoy never come to rest");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn both_sides_agree_when_they_are_quiet(
        steps in prop::collection::vec(step(), 0..80),
        partial in any::<bool>(),
    ) {
        let mut world = World::new(partial);
        for step in steps {
            world.steps(step);
        }
        world.connect();
        world.quiet();
        for (resource_type, waiting) in &world.plane.unanswered {
            prop_assert!(waiting.is_empty(), "{resource_type:?} has no answer: {waiting:?}");
        }
        let empty = Versions::new();
        let bad = |versions: &Versions| versions.values().any(|version| version.starts_with(BAD));
        let any_bad = world.plane.state.values().any(bad);
        for resource_type in ResourceType::ALL {
            let wanted = world.plane.state.get(&resource_type).unwrap_or(&empty);
            let runs = world.envoy.runs.get(&resource_type).unwrap_or(&empty);
            let asked = world.envoy.asked.get(&resource_type);
            for (name, version) in wanted {
                let interested = match resource_type {
                    Cluster | Listener => true,
                    _ => asked.is_some_and(|names| names.contains(name)),
                };
                if interested && !version.starts_with(BAD) {
                    prop_assert_eq!(runs.get(name), Some(version), "{:?} {}", resource_type, name);
                }
                let good = world.relay.last_good().get(resource_type, name);
                if !version.starts_with(BAD) {
                    prop_assert_eq!(good.map(|entry| &entry.version), Some(version));
                } else if interested {
                    // Its last-good version, if it has one: with that, and with what is kept of it, Envoy agrees.
                    let good = good.filter(|entry| !entry.version.starts_with(BAD));
                    prop_assert_eq!(runs.get(name), good.map(|entry| &entry.version), "{:?} {}", resource_type, name);
                }
            }
            // What a last-good version may refer to stays while something bad is wanted.
            if !any_bad && matches!(resource_type, Cluster | Listener) {
                prop_assert_eq!(runs, wanted, "{:?}", resource_type);
            }
        }
        let endpoints = world.relay.last_good();
        for cluster in &world.envoy.warming {
            let known = endpoints.get(Endpoint, cluster).filter(|entry| !entry.version.starts_with(BAD));
            prop_assert!(known.is_none(), "{cluster} warms though its endpoints are known");
        }
        prop_assert_eq!(world.relay.last_good(), &world.kept);
    }
}
