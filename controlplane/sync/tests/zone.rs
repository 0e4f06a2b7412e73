//! A zone takes from global what is global's to say, and nothing else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

mod common;

use std::sync::Arc;

use common::fake::{Fake, GlobalEnd};
use common::objects::{self, item, key};
use common::{Zone, global_key, objects_but, put, until};
use ursa_crds::{Kind, Object, ObjectKey, SocketSpec, Spec};
use ursa_proto::sync::{Acknowledgement, Delta, Held, Item, Key, from_global, from_zone};

fn delta(sequence: u64, upserts: Vec<Item>, removals: Vec<Key>) -> from_global::Message {
    from_global::Message::Delta(Delta { sequence, upserts, removals })
}

/// A zone with a dataplane and an offer of its own, and copies of global's, in step with a fake global.
async fn in_step() -> (Fake, Zone, GlobalEnd) {
    let mut fake = Fake::start().await;
    let zone = fake.zone("east");
    put(&zone.store, objects::dataplane("web-1")).await;
    let own = put(&zone.store, objects::mesh_zone("east", &["web"])).await;
    let (mut stream, _) = fake.accept().await;
    stream.welcome(Vec::new()).await;
    let copies = [objects::mesh(), objects::permission("p"), objects::mesh_zone("west", &["db"])];
    stream.send(delta(1, copies.iter().map(item).collect(), Vec::new())).await;
    let (mut offered, mut acknowledged) = (false, false);
    while !(offered && acknowledged) {
        match stream.news().await.unwrap() {
            from_zone::Message::Delta(told) => {
                assert_eq!(objects::names(&told.upserts), ["MeshZone east"]);
                acknowledge(&stream, &told).await;
                offered = true;
            }
            from_zone::Message::Acknowledgement(Acknowledgement { sequence: 1 }) => acknowledged = true,
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert!(zone.store.get(&own.key()).is_some());
    (fake, zone, stream)
}

async fn acknowledge(stream: &GlobalEnd, delta: &Delta) {
    stream.send(from_global::Message::Acknowledgement(Acknowledgement { sequence: delta.sequence })).await;
}

/// The zone ends the stream without an acknowledgement, nothing changes, and it comes back.
async fn refused(fake: &mut Fake, zone: &Zone, mut stream: GlobalEnd, what: &str, sent: Delta) -> GlobalEnd {
    let before: Vec<Arc<Object>> = objects_but(&zone.store, &[]);
    stream.send(from_global::Message::Delta(sent)).await;
    match stream.news().await {
        None => {}
        Some(answer) => panic!("{what}: it was answered: {answer:?}"),
    }
    assert_eq!(objects_but(&zone.store, &[]), before, "{what}: it changed the store");
    let (stream, hello) = fake.accept().await;
    let held = hello.held.iter().map(|held| objects::text(held.key.as_ref().unwrap()));
    assert_eq!(held.collect::<Vec<_>>(), ["Mesh default", "MeshZone west", "TrafficPermission p"], "{what}");
    stream
}

#[tokio::test]
async fn what_global_may_not_send_ends_the_stream_and_changes_nothing() {
    let (mut fake, zone, mut stream) = in_step().await;
    let secret = "kind: Secret\nmetadata: {name: ca}\nspec: {mesh: default, value: hidden}\n";
    let insight = "kind: ZoneInsight\nmetadata: {name: east}\nspec: {connected: true}\n";
    let good = item(&objects::permission("good"));
    let route = "kind: TrafficRoute\nmetadata: {name: r}\nspec:\n  mesh: default\n  sources: [{match: {ursamesh.io/service: '*'}}]\n  \
                 destinations: [{match: {ursamesh.io/service: web}}]\n  conf: {split: []}\n";
    let text = String::from_utf8(good.object.clone()).unwrap();
    let with = |object: &str| Item { object: object.as_bytes().to_vec(), ..good.clone() };
    for (what, sent) in [
        ("a dataplane", item(&objects::dataplane("web-2"))),
        ("the zone's own dataplane", item(&objects::dataplane("web-1"))),
        ("the zone's own offer", item(&objects::mesh_zone("east", &["stolen"]))),
        ("an ingress of the zone's own", item(&objects::ingress("east.in", "east", "10.0.0.66"))),
        ("a secret", item(&objects::object(secret))),
        ("a zone", item(&objects::zone("west", true))),
        ("what zones observe", item(&objects::dataplane_insight("west.web-1", "west"))),
        ("what global observes", item(&objects::object(insight))),
        ("an invalid route", item(&objects::read(route))),
        ("garbage", with("garbage")),
        ("an unknown field", with(&text.replace("\"sources\"", "\"extra\":1,\"sources\""))),
        ("another key", Item { key: Some(key(&ObjectKey::mesh("default"))), ..good.clone() }),
    ] {
        // What is good beside it is not taken either.
        let sent = Delta { sequence: 2, upserts: vec![good.clone(), sent], removals: Vec::new() };
        stream = refused(&mut fake, &zone, stream, what, sent).await;
        stream.welcome(Vec::new()).await;
        let Some(from_zone::Message::Delta(told)) = stream.news().await else {
            panic!("it says what it has")
        };
        acknowledge(&stream, &told).await;
    }
    // Alone it is taken.
    stream.send(delta(1, vec![good], Vec::new())).await;
    let answer = stream.news().await.unwrap();
    assert_eq!(answer, from_zone::Message::Acknowledgement(Acknowledgement { sequence: 1 }));
    assert!(zone.store.get(&objects::permission("good").key()).is_some());
}

#[tokio::test]
async fn global_removes_copies_and_nothing_of_the_zone_s_own() {
    let (_fake, zone, mut stream) = in_step().await;
    let before = objects_but(&zone.store, &[]);
    let own = [
        ObjectKey::in_mesh(Kind::Dataplane, "default", "web-1"),
        ObjectKey::in_mesh(Kind::MeshZone, "default", "east"),
        global_key(Kind::Zone, "east"),
    ];
    let copies = [
        ObjectKey::in_mesh(Kind::TrafficPermission, "default", "p"),
        ObjectKey::in_mesh(Kind::MeshZone, "default", "west"),
    ];
    stream.send(delta(2, Vec::new(), own.iter().map(key).collect())).await;
    let answer = stream.news().await.unwrap();
    assert_eq!(answer, from_zone::Message::Acknowledgement(Acknowledgement { sequence: 2 }));
    assert_eq!(objects_but(&zone.store, &[]), before, "what is the zone's own is not global's to remove");
    stream.send(delta(3, Vec::new(), copies.iter().map(key).collect())).await;
    let answer = stream.news().await.unwrap();
    assert_eq!(answer, from_zone::Message::Acknowledgement(Acknowledgement { sequence: 3 }));
    assert_eq!(objects_but(&zone.store, &[]).len(), before.len() - 2);
}

#[tokio::test]
async fn a_zone_sends_again_only_what_global_does_not_hold() {
    let mut fake = Fake::start().await;
    let zone = fake.zone("east");
    let offers = [objects::mesh_zone("east", &["web"]), objects::ingress("east.in", "east", "10.0.0.1")];
    for offer in &offers {
        put(&zone.store, offer.clone()).await;
    }
    let (mut stream, _) = fake.accept().await;
    stream.welcome(Vec::new()).await;
    let mut items: Vec<Item> = Vec::new();
    while items.len() < offers.len() {
        let Some(from_zone::Message::Delta(told)) = stream.news().await else {
            panic!("it says what it has")
        };
        acknowledge(&stream, &told).await;
        items.extend(told.upserts);
    }
    drop(stream);

    let (mut stream, _) = fake.accept().await;
    stream.welcome(objects::held(&items)).await;
    put(&zone.store, objects::ingress("east.second", "east", "10.0.0.2")).await;
    let Some(from_zone::Message::Delta(told)) = stream.news().await else { panic!("it says what is new") };
    let only = (1, vec!["ZoneIngress east.second".to_owned()], Vec::new());
    assert_eq!((told.sequence, objects::names(&told.upserts), told.removals), only);
    items.extend(told.upserts);
    // Unacknowledged: global may not have it. It says what it has, and something that is gone.
    drop(stream);

    zone.store.delete(&offers[0].key(), None).await.unwrap();
    let (mut stream, _) = fake.accept().await;
    let held: Vec<Held> = objects::held(&items[..2]);
    stream.welcome(held).await;
    let Some(from_zone::Message::Delta(told)) = stream.news().await else { panic!("it says the difference") };
    assert_eq!(objects::names(&told.upserts), ["ZoneIngress east.second"]);
    assert_eq!(told.removals, [key(&offers[0].key())]);
}

#[tokio::test]
async fn a_global_with_another_store_changes_nothing() {
    let (mut fake, mut zone, stream) = in_step().await;
    let before = objects_but(&zone.store, &[]);
    drop(stream);
    zone.until_connected(false).await;
    let (mut stream, hello) = fake.accept().await;
    let welcome = |adopted| {
        let welcome =
            ursa_proto::sync::GlobalWelcome { epoch: "epoch-2".into(), adopted, ..Default::default() };
        from_global::Message::Welcome(welcome)
    };
    stream.send(welcome(false)).await;
    let all: Vec<Key> = hello.held.iter().filter_map(|held| held.key.clone()).collect();
    stream.send(delta(1, vec![item(&objects::permission("new"))], all.clone())).await;
    // It tells the new one of its own, and leaves what that one says unanswered.
    let Some(from_zone::Message::Delta(told)) = stream.news().await else { panic!("it says what it has") };
    acknowledge(&stream, &told).await;
    put(&zone.store, objects::mesh_zone("east", &["web", "api"])).await;
    let Some(from_zone::Message::Delta(_)) = stream.news().await else { panic!("not an acknowledgement") };
    let untouched = |object: &Arc<Object>| object.kind() != Kind::MeshZone;
    let now = objects_but(&zone.store, &[]);
    let (now, before): (Vec<_>, Vec<_>) =
        (now.into_iter().filter(untouched).collect(), before.into_iter().filter(untouched).collect());
    assert_eq!(now, before);
    drop(stream);

    // Once it is adopted there, it is followed.
    let (mut stream, _) = fake.accept().await;
    stream.send(welcome(true)).await;
    stream.send(delta(1, vec![item(&objects::permission("new"))], all)).await;
    until(&zone.store, "replaced", |store| store.get(&objects::permission("p").key()).is_none()).await;
    until(&zone.store, "replaced", |store| store.get(&objects::permission("new").key()).is_some()).await;
    while !matches!(stream.news().await.unwrap(), from_zone::Message::Acknowledgement(_)) {}
}

#[tokio::test]
async fn an_ingress_is_told_while_it_is_known_where_it_is_reached() {
    let (_fake, zone, mut stream) = in_step().await;
    let ingress = objects::read(
        "kind: ZoneIngress\nmetadata: {name: east.in, uid: u-1}\nspec: {zone: east, networking: {address: 0.0.0.0}}\n",
    );
    let mut reached = ingress.clone();
    if let Spec::ZoneIngress(spec) = &mut reached.spec {
        spec.advertised = Some(SocketSpec { address: "203.0.113.7".parse().unwrap(), port: 443 });
    }
    let key = ingress.key();
    zone.store.discovered(vec![(key.clone(), Some(ingress.clone()))]);
    zone.store.discovered(vec![(key.clone(), Some(reached))]);
    let Some(from_zone::Message::Delta(told)) = stream.news().await else { panic!("it says what is new") };
    assert_eq!((told.sequence, objects::names(&told.upserts)), (2, vec!["ZoneIngress east.in".to_owned()]));
    acknowledge(&stream, &told).await;
    zone.store.discovered(vec![(key.clone(), Some(ingress))]);
    let Some(from_zone::Message::Delta(told)) = stream.news().await else { panic!("it says what is gone") };
    assert_eq!((objects::names(&told.upserts), told.removals), (vec![], vec![objects::key(&key)]));
}
