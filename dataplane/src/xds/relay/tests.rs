use ursa_envoy::ResourceType::{Cluster, Endpoint, Listener, Route, Secret};
use ursa_envoy::identity_secret;
use ursa_envoy::wire::{Any, WireResource, WireStatus};

use super::*;

pub(super) fn entry(resource_type: ResourceType, version: &str) -> Arc<Entry> {
    let body = match resource_type {
        Secret => identity_secret(version, "key"),
        _ => Any { type_url: resource_type.type_url().into(), value: version.as_bytes().to_vec() },
    };
    Arc::new(Entry { version: version.into(), body })
}

/// A response of the control plane: `name=version` adds, `-name` removes.
pub(super) fn push(resource_type: ResourceType, nonce: &str, what: &[&str]) -> Event {
    let resources = what.iter().filter_map(|item| item.split_once('=')).map(|(name, version)| WireResource {
        name: name.into(),
        version: version.into(),
        resource: Some(entry(resource_type, version).body.clone()),
        ..Default::default()
    });
    Event::Upstream(DeltaDiscoveryResponse {
        type_url: resource_type.type_url().into(),
        nonce: nonce.into(),
        resources: resources.collect(),
        removed_resources: what.iter().filter_map(|item| item.strip_prefix('-')).map(str::to_owned).collect(),
        ..Default::default()
    })
}

fn asks(resource_type: ResourceType, names: &[&str]) -> Event {
    Event::Envoy(DeltaDiscoveryRequest {
        type_url: resource_type.type_url().into(),
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    })
}

fn short(type_url: &str) -> String {
    format!("{:?}", ResourceType::from_type_url(type_url).unwrap())
}

/// Actions as a test reads them: `envoy Cluster a=1 -b`, `ack Cluster n1`, `nack Cluster n1 a: why`, …
fn said(actions: &[Action]) -> Vec<String> {
    actions
        .iter()
        .map(|action| match action {
            Action::Envoy(response) => {
                let adds = response.resources.iter().map(|r| format!(" {}={}", r.name, r.version));
                let removes = response.removed_resources.iter().map(|name| format!(" -{name}"));
                let items: String = adds.chain(removes).collect();
                format!("envoy {}{items}", short(&response.type_url))
            }
            Action::Upstream(request) => match &request.error_detail {
                None if request.response_nonce.is_empty() => {
                    format!("subscribe {}", short(&request.type_url))
                }
                None => format!("ack {} {}", short(&request.type_url), request.response_nonce),
                Some(error) => {
                    format!("nack {} {} {}", short(&request.type_url), request.response_nonce, error.message)
                }
            },
            Action::Save => "save".into(),
            Action::Reconnect => "reconnect".into(),
            Action::Refused { name, .. } => format!("refused {name}"),
        })
        .collect()
}

/// A relay whose messages to Envoy can be answered.
struct Bench {
    relay: Relay,
    /// The last nonce a type.
    nonces: BTreeMap<ResourceType, String>,
}

impl Bench {
    /// The control plane's stream is there again: the first request, for clusters.
    fn comes_back(&mut self) -> DeltaDiscoveryRequest {
        let actions = self.relay.handle(Event::UpstreamUp { node_id: "default/web".into() });
        match actions.into_iter().next() {
            Some(Action::Upstream(first)) => first,
            other => panic!("{other:?}"),
        }
    }

    fn new(last_good: Option<Cache>) -> Self {
        Self { relay: Relay::new(last_good), nonces: BTreeMap::new() }
    }

    /// With both sides up, and Envoy having asked for clusters.
    fn starting() -> Self {
        let mut bench = Self::new(None);
        bench.does(Event::UpstreamUp { node_id: "default/web".into() });
        bench.does(Event::EnvoyUp);
        bench.does(asks(Cluster, &[]));
        bench
    }

    /// With both sides up; there are no clusters yet, and Envoy has asked for listeners, too.
    fn up() -> Self {
        let mut bench = Self::starting();
        assert_eq!(bench.does(push(Cluster, "n0", &[])), ["envoy Cluster", "ack Cluster n0"]);
        bench.ack(Cluster);
        bench.does(asks(Listener, &[]));
        bench
    }

    fn does(&mut self, event: Event) -> Vec<String> {
        let actions = self.relay.handle(event);
        for action in &actions {
            if let Action::Envoy(response) = action {
                let resource_type = ResourceType::from_type_url(&response.type_url).unwrap();
                self.nonces.insert(resource_type, response.nonce.clone());
            }
        }
        said(&actions)
    }

    fn ack(&mut self, resource_type: ResourceType) -> Vec<String> {
        self.answer(resource_type, None)
    }

    fn nack(&mut self, resource_type: ResourceType, message: &str) -> Vec<String> {
        self.answer(resource_type, Some(WireStatus { message: message.into(), ..Default::default() }))
    }

    fn answer(&mut self, resource_type: ResourceType, error_detail: Option<WireStatus>) -> Vec<String> {
        self.does(Event::Envoy(DeltaDiscoveryRequest {
            type_url: resource_type.type_url().into(),
            response_nonce: self.nonces[&resource_type].clone(),
            error_detail,
            ..Default::default()
        }))
    }
}

#[test]
fn a_response_is_acknowledged_only_after_envoy_has() {
    let mut bench = Bench::up();
    assert_eq!(bench.does(push(Cluster, "n1", &["a=1"])), ["envoy Cluster a=1"]);
    assert_eq!(bench.ack(Cluster), ["ack Cluster n1", "save"]);
}

#[test]
fn what_envoy_does_not_care_for_is_acknowledged_once_it_cannot_come_to() {
    let mut bench = Bench::up();
    bench.does(push(Cluster, "n1", &["a=1"]));
    assert_eq!(bench.does(push(Endpoint, "n2", &["other=1"])), [""; 0]);
    assert_eq!(bench.ack(Cluster), ["ack Cluster n1", "ack Endpoint n2", "save"]);
}

#[test]
fn listeners_wait_for_clusters_and_their_endpoints() {
    let mut bench = Bench::up();
    bench.does(push(Cluster, "n1", &["a=1"]));
    assert_eq!(bench.does(push(Endpoint, "n2", &["a=1"])), [""; 0]);
    assert_eq!(bench.does(push(Listener, "n3", &["l=1"])), [""; 0]);
    assert_eq!(bench.does(asks(Endpoint, &["a"])), ["envoy Endpoint a=1"]);
    assert_eq!(bench.ack(Cluster), ["ack Cluster n1", "save"]);
    assert_eq!(bench.ack(Endpoint), ["envoy Listener l=1", "ack Endpoint n2", "save"]);
    assert_eq!(bench.ack(Listener), ["ack Listener n3", "save"]);
}

#[test]
fn endpoints_follow_their_changed_cluster_at_once() {
    let mut bench = Bench::up();
    bench.does(push(Cluster, "n1", &["a=1", "b=1"]));
    bench.does(push(Endpoint, "n2", &["a=1", "b=1"]));
    bench.does(asks(Endpoint, &["a", "b"]));
    bench.ack(Cluster);
    bench.ack(Endpoint);
    assert_eq!(bench.does(push(Cluster, "n3", &["a=2"])), ["envoy Cluster a=2", "envoy Endpoint a=1"]);
}

#[test]
fn clusters_leave_after_the_listeners_that_use_them() {
    let mut bench = Bench::up();
    bench.does(push(Cluster, "n1", &["a=1"]));
    bench.ack(Cluster);
    bench.does(push(Listener, "n2", &["l=1"]));
    bench.ack(Listener);
    assert_eq!(bench.does(push(Listener, "n3", &["-l"])), ["envoy Listener -l"]);
    assert_eq!(bench.does(push(Cluster, "n4", &["-a"])), [""; 0]);
    assert_eq!(bench.ack(Listener), ["envoy Cluster -a", "ack Listener n3", "save"]);
    assert_eq!(bench.ack(Cluster), ["ack Cluster n4", "save"]);
    assert_eq!(bench.relay.last_good(), &Cache::default());
}

#[test]
fn the_guilty_one_is_found_when_envoy_does_not_name_it() {
    let mut bench = Bench::up();
    assert_eq!(bench.does(push(Cluster, "n1", &["a=1", "x=1", "y=1", "z=1"])).len(), 1);
    assert_eq!(bench.nack(Cluster, "!"), ["envoy Cluster a=1 x=1"]);
    assert_eq!(bench.nack(Cluster, "!"), ["envoy Cluster a=1"]);
    assert_eq!(bench.ack(Cluster), ["envoy Cluster x=1", "save"]);
    assert_eq!(bench.nack(Cluster, "no such thing"), ["refused x", "envoy Cluster y=1 z=1"]);
    assert_eq!(bench.ack(Cluster), ["nack Cluster n1 x: no such thing", "save"]);
    assert!(bench.relay.last_good().get(Cluster, "y").is_some());
    assert!(bench.relay.last_good().get(Cluster, "x").is_none());
}

#[test]
fn the_one_that_envoy_names_is_tried_alone() {
    let mut bench = Bench::up();
    bench.does(push(Listener, "n1", &["one=1", "two=1", "three=1"]));
    assert_eq!(bench.nack(Listener, "error adding two: port in use"), ["envoy Listener one=1 three=1"]);
    assert_eq!(bench.ack(Listener), ["envoy Listener two=1", "save"]);
    assert_eq!(bench.nack(Listener, "port in use"), ["refused two", "nack Listener n1 two: port in use"]);
}

#[test]
fn a_refused_version_leaves_the_last_good_one_and_what_it_refers_to() {
    let mut bench = Bench::up();
    bench.does(push(Cluster, "n1", &["old=1"]));
    bench.ack(Cluster);
    bench.does(push(Listener, "n2", &["l=1"]));
    bench.ack(Listener);
    bench.does(push(Cluster, "n3", &["new=1"]));
    bench.ack(Cluster);
    bench.does(push(Listener, "n4", &["l=2"]));
    assert_eq!(bench.nack(Listener, "bad"), ["refused l", "nack Listener n4 l: bad"]);
    // `l` in version 1 still needs `old`.
    assert_eq!(bench.does(push(Cluster, "n5", &["-old"])), ["ack Cluster n5"]);
    assert_eq!(bench.relay.last_good().get(Listener, "l").unwrap().version, "1");
    // A new Envoy gets the last-good set, not the refused version.
    bench.does(Event::EnvoyUp);
    assert_eq!(bench.does(asks(Cluster, &[])), ["envoy Cluster new=1 old=1"]);
    bench.ack(Cluster);
    assert_eq!(bench.does(asks(Listener, &[])), ["envoy Listener l=1"]);
    bench.ack(Listener);
    // A version that Envoy takes ends it.
    assert_eq!(bench.does(push(Listener, "n6", &["l=3"])), ["envoy Listener l=3"]);
    assert_eq!(bench.ack(Listener), ["envoy Cluster -old", "ack Listener n6", "save"]);
}

/// What a first request says is held: names and versions.
fn held(first: &DeltaDiscoveryRequest) -> Vec<(&str, &str)> {
    let held =
        first.initial_resource_versions.iter().map(|(name, version)| (name.as_str(), version.as_str()));
    held.collect::<BTreeMap<_, _>>().into_iter().collect()
}

#[test]
fn a_refused_version_is_never_stated_as_held() {
    let mut bench = Bench::up();
    bench.does(push(Cluster, "n1", &["a=1", "b=1"]));
    bench.ack(Cluster);
    bench.does(push(Cluster, "n2", &["a=2"]));
    bench.nack(Cluster, "bad");
    bench.does(push(Cluster, "n3", &["c=1"]));
    bench.nack(Cluster, "bad");
    bench.does(Event::UpstreamDown);
    let first = bench.comes_back();
    assert_eq!(held(&first), [("a", "1"), ("b", "1"), ("c", "")]);
    assert_eq!(first.node.as_ref().unwrap().id, "default/web");
    // Another replica sends it again: it hears the same, and Envoy is not troubled.
    assert_eq!(bench.does(push(Cluster, "m1", &["a=2", "c=1"])), ["nack Cluster m1 a: bad\nc: bad"]);
}

#[test]
fn what_envoy_has_not_answered_for_is_not_stated_as_held() {
    let mut bench = Bench::up();
    bench.does(push(Cluster, "n1", &["a=1", "b=1"]));
    bench.ack(Cluster);
    bench.does(push(Cluster, "n2", &["a=2", "c=1"]));
    bench.does(Event::UpstreamDown);
    let first = bench.comes_back();
    assert_eq!(held(&first), [("a", ""), ("b", "1"), ("c", "")]);
    // It comes again, and is acknowledged once Envoy has answered.
    assert_eq!(bench.does(push(Cluster, "m1", &["a=2", "c=1"])), [""; 0]);
    assert_eq!(bench.ack(Cluster), ["ack Cluster m1", "save"]);
}

#[test]
fn what_a_retry_brings_in_is_stated_by_a_new_stream() {
    let mut bench = Bench::up();
    bench.does(push(Listener, "n1", &["l=1"]));
    bench.nack(Listener, "port in use");
    assert!(bench.relay.has_refusals());
    assert_eq!(bench.does(Event::Retry), ["envoy Listener l=1"]);
    assert_eq!(bench.nack(Listener, "port in use"), [""; 0]);
    assert_eq!(bench.does(Event::Retry), ["envoy Listener l=1"]);
    assert_eq!(bench.ack(Listener), ["reconnect", "save"]);
    assert!(!bench.relay.has_refusals());
}

#[test]
fn a_refused_secret_comes_again_in_other_words() {
    let mut bench = Bench::up();
    bench.does(asks(Secret, &["a", "b"]));
    let sent = |actions: Vec<Action>| match actions.into_iter().find_map(|action| match action {
        Action::Envoy(response) => Some(response),
        _ => None,
    }) {
        Some(response) => response.resources.into_iter().map(|secret| secret.resource.unwrap()).collect(),
        None => Vec::new(),
    };
    let first = sent(bench.relay.handle(push(Secret, "n1", &["a=1", "b=1"])));
    assert_eq!(first, [entry(Secret, "1").body.clone(), entry(Secret, "1").body.clone()]);
    let answer = |nonce: &str, refused: bool| {
        Event::Envoy(DeltaDiscoveryRequest {
            type_url: Secret.type_url().into(),
            response_nonce: nonce.into(),
            error_detail: refused.then(|| WireStatus { message: "bad root".into(), ..Default::default() }),
            ..Default::default()
        })
    };
    let again = sent(bench.relay.handle(answer("2", true)));
    assert_eq!(again.len(), 1, "the culprit is looked for");
    assert_ne!(again[0], first[0]);
    let third = sent(bench.relay.handle(answer("3", true)));
    assert_ne!(third[0], first[1]);
    bench.relay.handle(answer("4", false));
    let retried = sent(bench.relay.handle(Event::Retry));
    assert_eq!(retried[..], first[..1], "Envoy was sent another one last");
}

#[test]
fn the_last_good_set_serves_without_the_control_plane() {
    let mut cache = Cache::default();
    cache.insert(Cluster, "a", entry(Cluster, "1"));
    cache.insert(Endpoint, "a", entry(Endpoint, "1"));
    cache.insert(Route, "r", entry(Route, "1"));
    cache.insert(Listener, "l", entry(Listener, "1"));
    let mut bench = Bench::new(Some(cache));
    bench.does(Event::EnvoyUp);
    assert_eq!(bench.does(asks(Cluster, &[])), ["envoy Cluster a=1"]);
    assert_eq!(bench.does(asks(Endpoint, &["a"])), ["envoy Endpoint a=1"]);
    bench.ack(Cluster);
    bench.ack(Endpoint);
    assert_eq!(bench.does(asks(Listener, &[])), ["envoy Listener l=1"]);
    bench.ack(Listener);
    assert_eq!(bench.does(asks(Route, &["r"])), ["envoy Route r=1"]);
}

#[test]
fn the_certificate_is_the_agents_own() {
    let mut bench = Bench::up();
    bench.does(asks(Secret, &[IDENTITY_SECRET]));
    let own = entry(Secret, "leaf-1");
    assert_eq!(bench.does(Event::Identity(Some(own))), ["envoy Secret identity=leaf-1"]);
    assert_eq!(bench.ack(Secret), [""; 0]);
    assert_eq!(
        bench.does(push(Secret, "n1", &["identity=evil"])),
        ["nack Secret n1 identity: the agent's own certificate has this name"]
    );
    assert_eq!(bench.does(push(Secret, "n2", &["-identity"])), ["ack Secret n2"]);
    assert_eq!(bench.does(Event::Identity(Some(entry(Secret, "leaf-2")))), ["envoy Secret identity=leaf-2"]);
    bench.ack(Secret);
    assert_eq!(bench.relay.last_good(), &Cache::default());
}

#[test]
fn a_name_that_is_asked_for_again_is_sent_again() {
    let mut bench = Bench::up();
    bench.does(push(Endpoint, "n1", &["a=1"]));
    assert_eq!(bench.does(asks(Endpoint, &["a"])), ["envoy Endpoint a=1"]);
    bench.does(asks(Endpoint, &["a"]));
    assert_eq!(bench.ack(Endpoint), ["envoy Endpoint a=1"]);
}

#[test]
fn an_envoy_that_reconnects_gets_the_differences_only() {
    let mut bench = Bench::up();
    bench.does(push(Cluster, "n1", &["a=1", "b=1"]));
    bench.ack(Cluster);
    bench.does(Event::EnvoyDown);
    bench.does(push(Cluster, "n2", &["b=2", "-c"]));
    bench.does(Event::EnvoyUp);
    let held = [("a", "1"), ("b", "1")].map(|(name, version)| (name.to_owned(), version.to_owned()));
    let request = DeltaDiscoveryRequest {
        type_url: Cluster.type_url().into(),
        initial_resource_versions: held.into_iter().collect(),
        ..Default::default()
    };
    assert_eq!(bench.does(Event::Envoy(request)), ["envoy Cluster b=2"]);
}

#[test]
fn listeners_without_clusters_do_not_wait_for_clusters() {
    let mut bench = Bench::starting();
    assert_eq!(bench.does(push(Listener, "n1", &["l=1"])), ["envoy Cluster"]);
    // Envoy asks for listeners when it has its clusters.
    bench.ack(Cluster);
    assert_eq!(bench.does(asks(Listener, &[])), ["envoy Listener l=1"]);
}

#[test]
fn a_part_of_a_set_is_not_the_last_good_one() {
    let mut bench = Bench::starting();
    assert!(!bench.relay.is_whole(), "nothing is known");
    bench.does(push(Cluster, "n1", &["a=1"]));
    bench.ack(Cluster);
    assert!(!bench.relay.is_whole(), "the listeners are still to come");
    bench.does(asks(Listener, &[]));
    bench.does(push(Listener, "n2", &["l=1"]));
    assert!(!bench.relay.is_whole(), "Envoy has not taken the listener yet");
    bench.ack(Listener);
    assert!(bench.relay.is_whole());
    bench.does(push(Listener, "n3", &["l=2"]));
    assert!(!bench.relay.is_whole());
    bench.nack(Listener, "l: no");
    assert!(bench.relay.is_whole(), "what was refused is waited for no longer");
}
