//! What may be registered: a valid Dataplane or ZoneIngress, in a mesh that is there.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use common::agent::Agent;
use common::{
    PATIENCE, World, ZONE, assert_refused, claims, dataplane, dataplanes, mesh, web_1, zone_ingress,
};
use jiff::{SignedDuration, Timestamp};
use tonic::Code;
use ursa_crds::{Kind, ObjectKey};
use ursa_proto::agent::{Draining, Hello, InboundReadiness, Readiness, from_agent};

async fn refused(world: &World, agent: &Agent, what: &str, resource: &[u8], code: Code, words: &[&str]) {
    let before = world.everything();
    assert_refused(what, agent.register(resource).await, code, words);
    assert!(world.everything() == before, "{what}: it changed the store");
}

async fn web_agent(world: &World) -> Agent {
    world.agent(&world.token_of("default", "web-1")).await
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_the_place() {
    let world = World::start().await;
    let agent = web_agent(&world).await;
    let two = format!("{}---\n{}", web_1(), web_1());
    let twice = web_1().replace("metadata:", "metadata: {name: a}\nmetadata:");
    for (what, resource, words) in [
        ("nothing", &b""[..], ["neither a resource nor a pod is named"]),
        ("invalid UTF-8", b"kind: \xff\xfe", ["invalid UTF-8 at byte 6"]),
        ("broken YAML", b"spec: {networking: [", ["cannot be read"]),
        ("two documents", two.as_bytes(), ["expected one document, found 2"]),
        ("a key twice", twice.as_bytes(), ["cannot be read"]),
    ] {
        refused(&world, &agent, what, resource, Code::InvalidArgument, &words).await;
    }
}

#[tokio::test]
async fn what_is_invalid_is_refused_with_the_field() {
    let world = World::start().await;
    let agent = web_agent(&world).await;
    let inbound = |text: &str| {
        let (head, _) = web_1().split_once("inbound:").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        format!("{head}inbound: [{text}]\n")
    };
    let tags = "tags: {ursamesh.io/service: web}";
    for (what, resource, field) in [
        ("no service tag", inbound("{port: 80, servicePort: 81, tags: {version: v1}}"), "inbound[0].tags"),
        (
            "a port twice",
            inbound(&format!("{{port: 80, servicePort: 81, {tags}}}, {{port: 80, servicePort: 82, {tags}}}")),
            "spec.networking.inbound[1].port",
        ),
        ("no inbound", inbound(""), "spec.networking.inbound"),
        ("port 0", inbound(&format!("{{port: 0, servicePort: 81, {tags}}}")), "inbound[0].port"),
        ("a port too large", inbound(&format!("{{port: 65536, {tags}}}")), "spec.networking.inbound[0].port"),
        (
            "a port that is text",
            inbound(&format!("{{port: http, {tags}}}")),
            "spec.networking.inbound[0].port",
        ),
        (
            "the zone's tag",
            inbound("{port: 80, servicePort: 81, tags: {ursamesh.io/service: web, ursamesh.io/zone: west}}"),
            "ursamesh.io/zone",
        ),
        (
            "an unknown field",
            inbound(&format!("{{port: 80, weight: 3, {tags}}}")),
            "inbound[0].weight: unknown field",
        ),
        ("an unknown field at the top", format!("{}extra: 1\n", web_1()), "extra: unknown field"),
        (
            "an unknown kind",
            web_1().replace("kind: Dataplane", "kind: Workload"),
            "kind: unknown kind \"Workload\"",
        ),
        ("another version", web_1().replace("v1alpha1", "v9"), "apiVersion"),
        ("no name", web_1().replace("{name: web-1}", "{}"), "metadata.name"),
        ("a name too long", web_1().replace("web-1", &"w".repeat(254)), "metadata.name"),
        ("a path as name", web_1().replace("web-1", "../web-1"), "metadata.name"),
        ("no address", web_1().replace("address: 10.0.0.1", "address: nowhere"), "spec.networking.address"),
        (
            "every address",
            web_1().replace("address: 10.0.0.1", "address: 0.0.0.0"),
            "spec.networking.address",
        ),
        (
            "a namespace",
            web_1().replace("{name: web-1}", "{name: web-1, namespace: a}"),
            "metadata.namespace",
        ),
    ] {
        refused(&world, &agent, what, resource.as_bytes(), Code::InvalidArgument, &[field]).await;
    }
}

#[tokio::test]
async fn other_kinds_are_not_taken_whatever_the_token_says() {
    let world = World::start().await;
    let agent = web_agent(&world).await;
    let permission = "apiVersion: ursamesh.io/v1alpha1\nkind: TrafficPermission\nmetadata: {name: web-1}\nspec:\n  \
                      sources: [{match: {ursamesh.io/service: '*'}}]\n  destinations: [{match: {ursamesh.io/service: '*'}}]\n";
    let zone =
        "apiVersion: ursamesh.io/v1alpha1\nkind: Zone\nmetadata: {name: east}\nspec: {enabled: false}\n";
    let offer =
        "apiVersion: ursamesh.io/v1alpha1\nkind: MeshZone\nmetadata: {name: west}\nspec: {mesh: default}\n";
    for (kind, resource) in [
        ("Mesh", mesh("default", false)),
        ("Mesh", mesh("new", false)),
        ("TrafficPermission", permission.to_owned()),
        ("Zone", zone.to_owned()),
        ("MeshZone", offer.to_owned()),
    ] {
        let words = ["Dataplane", "ZoneIngress", kind];
        refused(&world, &agent, kind, resource.as_bytes(), Code::InvalidArgument, &words).await;
    }
}

#[tokio::test]
async fn a_mesh_has_to_be_there_before_its_dataplanes() {
    let world = World::start().await;
    let agent = world.agent(&world.token_of("later", "web-1")).await;
    let resource = dataplane("later", "web-1", "web", "10.0.0.1", 8080, None);
    let words = ["mesh later does not exist"];
    refused(&world, &agent, "an unknown mesh", resource.as_bytes(), Code::FailedPrecondition, &words).await;
    common::put(&world.store, &mesh("later", false)).await;
    let session = agent.register(&resource).await.unwrap();
    assert_eq!(session.welcome.node_id, "later/web-1");
}

#[tokio::test]
async fn a_resource_that_is_too_large_is_refused_and_the_server_goes_on() {
    let world = World::start().await;
    let agent = web_agent(&world).await;
    let before = world.everything();
    let large = format!("{}# {}\n", web_1(), "x".repeat(10 * 1024 * 1024));
    agent.register(large).await.expect_err("10 MB are too much");
    assert!(world.everything() == before);
    web_agent(&world).await.register(web_1()).await.unwrap();
}

#[tokio::test]
async fn hello_is_the_first_message_and_comes_once() {
    let world = World::start().await;
    let agent = web_agent(&world).await;
    let before = world.everything();
    let unready = InboundReadiness { port: 8080, ready: false };
    for (what, first) in [
        ("readiness", from_agent::Message::Readiness(Readiness { inbounds: vec![unready] })),
        ("draining", from_agent::Message::Draining(Draining {})),
    ] {
        let words = ["the first message must be Hello"];
        assert_refused(what, agent.begin(first).await, Code::InvalidArgument, &words);
    }
    assert!(world.everything() == before);
    let mut session = agent.register(web_1()).await.unwrap();
    session.identity().await;
    let other = dataplane("default", "web-1", "web", "10.0.0.66", 8080, None).into_bytes();
    let registered = world.registered();
    session.send(from_agent::Message::Hello(Hello { resource: other, ..Hello::default() })).await;
    assert_refused("a second Hello", session.next().await, Code::InvalidArgument, &["only once"]);
    assert_eq!(world.registered(), registered);
}

#[tokio::test]
async fn metadata_that_the_server_sets_is_not_taken_from_an_agent() {
    let world = World::start().await;
    let agent = web_agent(&world).await;
    let forged = web_1().replace(
        "{name: web-1}",
        "{name: web-1, namespace: ursa-system, uid: forged, generation: 99, resourceVersion: '99', creationTimestamp: '2001-01-01T00:00:00Z'}",
    );
    let _session = agent.register(forged).await.unwrap();
    let key = ObjectKey::in_mesh(Kind::Dataplane, "default", "web-1");
    let stored = world.store.get(&key).expect("under the name that it is looked up by");
    assert_ne!(stored.meta.uid, "forged");
    assert_eq!(stored.meta.generation, 1);
    let age = Timestamp::now().duration_since(stored.meta.created.unwrap());
    assert!(age < SignedDuration::from_hours(1), "{age}");
}

#[tokio::test]
async fn an_ingress_is_of_the_zone_that_it_connects_to_whatever_it_says() {
    let world = World::start().await;
    let agent = world.agent(&world.token_of("", "in")).await;
    let claimed = zone_ingress("in").replace("spec:\n", "spec:\n  zone: west\n");
    let _session = agent.register(claimed).await.unwrap();
    let [stored] = world.store.list(Kind::ZoneIngress).try_into().unwrap();
    assert_eq!(stored.meta.name, format!("{ZONE}.in"));
    assert_eq!(stored.to_value()["spec"]["zone"], ZONE);
}

#[tokio::test]
async fn a_token_without_a_name_takes_over_no_dataplane_that_is_connected() {
    let world = World::start().await;
    let token = world.token(&claims("default", None, &["web"]));
    let first = world.agent(&token).await.register(web_1()).await.unwrap();
    let before = world.registered();
    let moved = dataplane("default", "web-1", "web", "10.0.0.66", 8080, None);
    let second = world.agent(&token).await;
    let words = ["default/web-1", "connected"];
    assert_refused("another address", second.register(&moved).await, Code::AlreadyExists, &words);
    assert_eq!(world.registered(), before);
    drop(first);
    let wait = async { while second.register(&moved).await.is_err() {} };
    tokio::time::timeout(PATIENCE, wait).await.expect("once the first is gone it may");
}

#[tokio::test]
async fn a_drained_dataplane_is_gone_and_no_other() {
    let world = World::start().await;
    let agent = web_agent(&world).await;
    let session = agent.register(web_1()).await.unwrap();
    session.send(from_agent::Message::Draining(Draining {})).await;
    world.until(|store| !dataplanes(store, "default").contains("web-1")).await;
    assert!(dataplanes(&world.store, "default").contains("db-1"));
}
