//! Delta ADS: a stream is one proxy's, for as long as it is open, and gets that proxy's resources only.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::agent::{Ads, Agent, delta_request, outcome, subscriptions};
use common::certificates::narrow_channel;
use common::{PATIENCE, World, ZONE, assert_refused, claims, dataplane, mesh, put, web_1, zone_ingress};
use tokio::time::timeout;
use tonic::Code;
use ursa_envoy::ResourceType;
use ursa_envoy::wire::{DeltaDiscoveryRequest, WireStatus, type_url};
use ursa_model::ProxyId;

/// A world in which web-1 is registered, and its agent.
async fn with_web() -> (World, Agent) {
    let world = World::start_with(&[web_1()]).await;
    let agent = world.agent(&world.token_of("default", "web-1")).await;
    (world, agent)
}

#[tokio::test]
async fn a_node_id_is_the_authenticated_identity() {
    let (world, agent) = with_web().await;
    let before = world.everything();
    for node_id in ["default/db-1", "other/web-1", "default/web-2", "/east.web-1", "/web-1", "other/db-1"] {
        let opened = agent.first_delta(node_id).await;
        assert_refused(node_id, opened, Code::PermissionDenied, &[]);
        assert_refused(node_id, agent.sign(node_id, b"").await, Code::PermissionDenied, &[]);
    }
    for node_id in ["", "web-1", "default/", "default/web-1/x", "//"] {
        let refusal = assert_refused(node_id, agent.first_delta(node_id).await, Code::InvalidArgument, &[]);
        assert!(refusal.message().contains("MESH/NAME"), "{refusal:?}");
    }
    assert!(world.everything() == before);
    agent.first_delta("default/web-1").await.unwrap();
}

#[tokio::test]
async fn strangers_are_not_told_which_dataplanes_exist() {
    let exists = World::start().await;
    let ingress = exists.agent(&exists.token_of("", "ingr-1")).await;
    let _session = ingress.register(zone_ingress("ingr-1")).await.unwrap();
    for (what, token, there, absent) in [
        ("another name", claims("default", Some("web-1"), &[]), "default/db-1", "default/db-9"),
        ("another mesh", claims("other", Some("db-1"), &[]), "default/db-1", "default/db-9"),
        ("other services", claims("default", None, &["web"]), "default/db-1", "default/db-9"),
        ("an ingress's", claims("", Some("x"), &[]), "default/db-1", "default/db-9"),
        ("another ingress's", claims("", Some("x"), &[]), "/east.ingr-1", "/east.ingr-9"),
        ("a dataplane's, for an ingress", claims("default", Some("in"), &[]), "/east.ingr-1", "/east.ingr-9"),
    ] {
        let agent = exists.agent(&exists.token(&token)).await;
        let last = |node_id: &'static str| node_id.rsplit(['/', '.']).next().unwrap();
        let (there_name, absent_name) = (last(there), last(absent));
        for call in ["ads", "sign"] {
            let ask = async |node_id: &str| match call {
                "ads" => agent.first_delta(node_id).await.map(drop),
                _ => agent.sign(node_id, b"no request").await.map(drop),
            };
            let known = ask(there).await.expect_err(what);
            let unknown = ask(absent).await.expect_err(what);
            assert_eq!(known.code(), unknown.code(), "{what}, {call}: {known:?} {unknown:?}");
            let same =
                known.message().replace(there_name, "X") == unknown.message().replace(absent_name, "X");
            assert!(same, "{what}, {call}: {known:?} {unknown:?}");
            assert!(!known.message().contains("5432") && !known.message().contains("10.0.0.9"));
        }
    }
}

#[tokio::test]
async fn an_agent_is_told_that_its_own_dataplane_is_not_registered() {
    let world = World::start().await;
    for token in [claims("default", Some("web-1"), &[]), claims("default", None, &["web"])] {
        let agent = world.agent(&world.token(&token)).await;
        let words = ["default/web-1", "not registered"];
        assert_refused("ads", agent.first_delta("default/web-1").await, Code::FailedPrecondition, &words);
        assert_refused("sign", agent.sign("default/web-1", b"").await, Code::FailedPrecondition, &words);
    }
}

#[tokio::test]
async fn a_node_id_that_changes_within_a_stream_ends_it() {
    let (world, agent) = with_web().await;
    for node_id in ["default/db-1", "other/web-1", "default/web-11"] {
        let mut ads = agent.ads("default/web-1").await;
        ads.next().await.unwrap();
        ads.requests.send(delta_request(node_id, type_url::CLUSTER)).await.unwrap();
        let ended = ended(&mut ads).await;
        assert_refused(node_id, Err::<(), _>(ended), Code::PermissionDenied, &["node id changed"]);
        assert!(!ads.mentions("10.0.0.9"), "{node_id}");
    }
    drop(world);
}

/// Takes responses until the stream ends.
async fn ended(ads: &mut Ads) -> tonic::Status {
    let wait = async {
        loop {
            if let Err(status) = ads.next().await {
                return status;
            }
        }
    };
    timeout(PATIENCE, wait).await.expect("the stream ends")
}

#[tokio::test]
async fn unknown_types_are_refused_by_name() {
    let (_world, agent) = with_web().await;
    for type_url in ["", "type.googleapis.com/envoy.config.core.v3.Node", "Cluster"] {
        let (_open, call) = agent.delta(vec![delta_request("default/web-1", type_url)]).await;
        let refusal = assert_refused(type_url, outcome(call).await, Code::InvalidArgument, &["unknown type"]);
        assert!(refusal.message().contains(type_url));
        let mut ads = agent.ads("default/web-1").await;
        ads.requests.send(delta_request("", type_url)).await.unwrap();
        let ended = ended(&mut ads).await;
        assert_refused(type_url, Err::<(), _>(ended), Code::InvalidArgument, &["unknown type"]);
    }
}

#[tokio::test]
async fn only_the_delta_variant_is_served() {
    let (_world, agent) = with_web().await;
    let words = ["DeltaAggregatedResources"];
    assert_refused("SotW", agent.first_of_the_world().await, Code::Unimplemented, &words);
}

/// Two meshes with equal service and proxy names, and nothing else in common.
fn twins() -> Vec<String> {
    let of = |mesh: &str, net: u8| {
        [
            dataplane(mesh, "app-1", "app", &format!("10.{net}.0.1"), 7070, Some("web")),
            dataplane(mesh, "web-1", "web", &format!("10.{net}.0.2"), 8080, None),
            dataplane(mesh, "lone-1", "lone", &format!("10.{net}.0.3"), 9090, None),
        ]
    };
    [of("default", 1), of("other", 2)].concat()
}

#[tokio::test]
async fn a_proxy_gets_its_own_resources_only_whatever_it_asks_for() {
    let world = World::start_with(&twins()).await;
    let mut everybody = Vec::new();
    for (mesh, net) in [("default", 1), ("other", 2)] {
        let foreign = 3 - net;
        let agent = world.agent(&world.token_of(mesh, "app-1")).await;
        let mut ads = agent.ads(&format!("{mesh}/app-1")).await;
        // Its own inbound, what it calls, and whom it trusts: all that there is to come.
        let complete = |ads: &Ads| {
            ads.mentions(&format!("10.{net}.0.1"))
                && ads.mentions(&format!("10.{net}.0.2"))
                && ads.has(ResourceType::Secret)
                && ads.has(ResourceType::Cluster)
        };
        ads.until("its configuration", complete).await;
        let settled = acknowledged(&world, mesh, "app-1", &mut ads).await;
        assert!(settled.mentions(&format!("east.{mesh}.ursa")), "its own trust domain");
        for text in [format!("10.{net}.0.3"), format!("10.{foreign}.0."), "lone".into(), "10.0.0.9".into()] {
            assert!(!settled.mentions(&text), "{mesh}/app-1 was given {text}");
        }
        let other = if mesh == "default" { "other" } else { "default" };
        assert!(!settled.mentions(&format!("east.{other}.ursa")), "{mesh}: another mesh's trust domain");
        everybody.push((mesh, agent, settled.held.clone()));
    }
    // Asking by name for what is another's gives nothing of it.
    let names: Vec<(String, String)> =
        everybody.iter().flat_map(|(_, _, held)| held.keys().cloned()).collect();
    for (mesh, agent, own) in everybody {
        let requests = ResourceType::ALL.into_iter().map(|kind| DeltaDiscoveryRequest {
            resource_names_subscribe: names
                .iter()
                .filter(|(type_url, _)| type_url == kind.type_url())
                .map(|(_, name)| name.clone())
                .chain(["*".into(), "lone".into(), "db".into()])
                .collect(),
            ..delta_request(&format!("{mesh}/app-1"), kind.type_url())
        });
        let (requests, call) = agent.delta(requests.collect()).await;
        let responses = call.unwrap().into_inner();
        let mut ads = Ads { requests, responses, held: Default::default(), received: 0 };
        ads.until("the same as before", |ads| ads.held.len() >= own.len()).await;
        let got: Vec<_> = ads.held.keys().collect();
        assert_eq!(got, own.keys().collect::<Vec<_>>(), "{mesh}");
    }
}

/// Takes responses until the control plane knows that the proxy has all of its newest snapshot.
async fn acknowledged<'a>(world: &World, mesh: &str, name: &str, ads: &'a mut Ads) -> &'a Ads {
    let proxy = ProxyId::new(mesh, name);
    let snapshots = world.index.subscribe(&proxy).await.unwrap();
    let wait = async {
        loop {
            let wanted = snapshots.borrow().as_ref().map(|snapshot| snapshot.resources.len());
            if wanted == Some(ads.held.len()) {
                return;
            }
            ads.next().await.unwrap();
        }
    };
    timeout(PATIENCE, wait).await.expect("everything comes");
    ads
}

#[tokio::test]
async fn an_ingress_and_a_dataplane_of_the_same_name_are_not_one() {
    let ingress_name = format!("{ZONE}.app-1");
    let world = World::start_with(&twins()).await;
    let agent = world.agent(&world.token_of("", "app-1")).await;
    let _session = agent.register(zone_ingress("app-1")).await.unwrap();
    let words = ["zone ingress"];
    assert_refused("its name", agent.first_delta("default/app-1").await, Code::PermissionDenied, &words);
    agent.first_delta(&format!("/{ingress_name}")).await.unwrap();
    let agent = world.agent(&world.token_of("default", "app-1")).await;
    let opened = agent.first_delta(&format!("/{ingress_name}")).await;
    assert_refused("an ingress's id", opened, Code::PermissionDenied, &["zone ingress"]);
}

#[tokio::test]
async fn a_mesh_that_is_added_and_changed_tells_other_meshes_nothing() {
    let world = World::start_with(&twins()).await;
    let agent = world.agent(&world.token_of("default", "app-1")).await;
    let mut ads = agent.ads("default/app-1").await;
    acknowledged(&world, "default", "app-1", &mut ads).await;
    let received = ads.received;
    put(&world.store, &mesh("third", true)).await;
    put(&world.store, &dataplane("third", "web-1", "web", "10.3.0.2", 8080, None)).await;
    put(&world.store, &dataplane("other", "web-2", "web", "10.2.0.22", 8080, None)).await;
    // The change that comes next is in its own mesh.
    put(&world.store, &dataplane("default", "web-2", "web", "10.1.0.22", 8080, None)).await;
    let agent = world.index.connect(&ProxyId::new("default", "web-2"));
    agent.unready(BTreeSet::new());
    ads.until("its own mesh's change", |ads| ads.mentions("10.1.0.22")).await;
    assert_eq!(ads.received, received + 1, "one response: endpoints, for the one change");
    assert!(!ads.mentions("10.3.") && !ads.mentions("10.2."));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_holds_up_nobody_else() {
    // Endpoints enough that the network's buffers are full after a few responses.
    let crowd = (0..400).map(|i| {
        let address = format!("10.5.{}.{}", i / 200, i % 200 + 1);
        dataplane("default", &format!("web-{i}"), "web", &address, 8080, None)
    });
    let callers =
        ["slow", "swift"].map(|name| dataplane("default", name, "app", "10.1.0.1", 7070, Some("web")));
    let world = World::start_with(&crowd.chain(callers).collect::<Vec<_>>()).await;
    let mut slow = world.agent(&world.token_of("default", "slow")).await;
    slow.channel = narrow_channel(&world, 65_535).await;
    let (acknowledge, call) = slow.delta(subscriptions("default/slow")).await;
    let _never_read = call.unwrap().into_inner();
    let agent = world.agent(&world.token_of("default", "swift")).await;
    let mut swift = agent.ads("default/swift").await;
    acknowledged(&world, "default", "swift", &mut swift).await;

    let sent = |name: &str| {
        let insight = world.index.insights().get(&ProxyId::new("default", name));
        insight.map_or(0, |insight| insight.responses)
    };
    // It acknowledges blindly what it has not read, so that the control plane has more and more for it.
    let (mut round, mut stuck, mut answered) = (0, 0, 0);
    while stuck < 20 {
        assert!(round < 1_000, "it is never stuck: {} responses were sent to it", sent("slow"));
        round += 1;
        let before = sent("slow");
        for (nonce, kind) in
            (answered + 1..=before).flat_map(|nonce| ResourceType::ALL.map(|kind| (nonce, kind)))
        {
            let request = DeltaDiscoveryRequest {
                type_url: kind.type_url().into(),
                response_nonce: nonce.to_string(),
                ..Default::default()
            };
            acknowledge.try_send(request).expect("room for what is never read");
        }
        answered = before;
        let port = 20_000 + round;
        put(
            &world.store,
            &dataplane("default", "web-0", "web", &format!("10.6.0.{}", round % 250), port, None),
        )
        .await;
        let address = format!("10.6.0.{}", round % 250);
        timeout(Duration::from_secs(10), swift.until("the endpoint", |swift| swift.mentions(&address)))
            .await
            .expect("the other one is served while this one does not read");
        stuck = if sent("slow") == before { stuck + 1 } else { 0 };
    }
    assert!(sent("slow") > 10, "it was stuck from the start: {}", sent("slow"));
    assert!(sent("swift") > sent("slow"), "{} {}", sent("swift"), sent("slow"));
}

#[tokio::test]
async fn what_was_refused_counts_until_a_new_stream_says_that_it_is_held() {
    let (world, agent) = with_web().await;
    let proxy = ProxyId::new("default", "web-1");
    let refuses = |world: &World| world.index.insights().has_rejections(&proxy);
    let (requests, call) = agent.delta(vec![delta_request("default/web-1", type_url::LISTENER)]).await;
    let mut responses = call.unwrap().into_inner();
    let listeners = timeout(PATIENCE, responses.message()).await.expect("listeners").unwrap().unwrap();
    let refusal = WireStatus { message: "Address already in use".into(), ..Default::default() };
    let nack = |nonce: &str| DeltaDiscoveryRequest {
        response_nonce: nonce.to_owned(),
        error_detail: Some(refusal.clone()),
        ..delta_request("", type_url::LISTENER)
    };
    requests.send(nack(&listeners.nonce)).await.unwrap();
    world.until(|_| refuses(&world)).await;
    // As an agent does once its Envoy has taken it.
    let held = listeners.resources.iter().map(|listener| (listener.name.clone(), listener.version.clone()));
    let resumes = DeltaDiscoveryRequest {
        initial_resource_versions: held.collect(),
        ..delta_request("default/web-1", type_url::LISTENER)
    };
    let others = subscriptions("default/web-1").into_iter().filter(|r| r.type_url != type_url::LISTENER);
    let (requests, call) = agent.delta([resumes].into_iter().chain(others).collect()).await;
    let mut ads =
        Ads { requests, responses: call.unwrap().into_inner(), held: Default::default(), received: 0 };
    ads.until("the rest", |ads| ads.has(ResourceType::Cluster)).await;
    assert!(!ads.has(ResourceType::Listener), "it is held");
    assert!(!refuses(&world));
}
