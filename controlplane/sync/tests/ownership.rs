//! A zone writes at global what is its own, and nothing else.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use common::objects::{self, item, key};
use common::raw::RawZone;
use common::{World, global_key, put};
use tonic::Code;
use ursa_crds::{Kind, ObjectKey};
use ursa_proto::sync::{Delta, Item, Key, from_zone};

fn upserts(items: Vec<Item>) -> from_zone::Message {
    from_zone::Message::Delta(Delta { sequence: 7, upserts: items, removals: Vec::new() })
}

fn removals(keys: Vec<Key>) -> from_zone::Message {
    from_zone::Message::Delta(Delta { sequence: 7, upserts: Vec::new(), removals: keys })
}

/// A world in which zone west has an offer and an ingress, and east an offer; west's stream is open.
async fn neighbours() -> (World, RawZone) {
    let world = World::start().await;
    put(&world.store, objects::permission("allow-all")).await;
    let mut east = RawZone::connect(&world, "east").await;
    east.offer(&[objects::mesh_zone("east", &["web"])], Vec::new()).await;
    let mut west = RawZone::connect(&world, "west").await;
    west.offer(
        &[objects::mesh_zone("west", &["db"]), objects::ingress("west.in", "west", "10.0.0.2")],
        vec![],
    )
    .await;
    (world, west)
}

/// What zone east sends ends its stream, changes nothing, and is of no concern to zone west.
async fn refused(world: &World, west: &mut RawZone, what: &str, message: from_zone::Message, words: &[&str]) {
    let held = objects::held(&[]);
    let mut east = RawZone::with(world, "east", held).await;
    let delta = east.delta().await;
    east.acknowledge(&delta).await;
    east.refused(world, what, message, &[Code::PermissionDenied, Code::InvalidArgument], words).await;
    west.ping().await;
}

#[tokio::test]
async fn a_zone_sends_objects_of_its_own_only() {
    let (world, mut west) = neighbours().await;
    let insight = objects::object(
        "kind: ZoneInsight
metadata: {name: east}
spec: {connected: false}
",
    );
    let secret = "kind: Secret\nmetadata: {name: ca}\nspec: {mesh: default, value: hidden}\n";
    let route = "kind: TrafficRoute\nmetadata: {name: r}\nspec:\n  mesh: default\n  sources: [{match: {ursamesh.io/service: '*'}}]\n  \
                 destinations: [{match: {ursamesh.io/service: web}}]\n  conf: {split: [{weight: 1, destination: {ursamesh.io/service: db}}]}\n";
    for (what, object) in [
        ("a policy", objects::permission("mine")),
        ("a policy that is there", objects::permission("allow-all")),
        ("a route", objects::object(route)),
        ("a mesh", objects::mesh()),
        ("a secret", objects::object(secret)),
        ("a zone", objects::zone("east", true)),
        ("another zone", objects::zone("west", false)),
        ("what global observes", insight),
        ("a dataplane", objects::dataplane("web-1")),
        ("another zone's offer", objects::mesh_zone("west", &["stolen"])),
        ("the offer of a zone that is not there", objects::mesh_zone("north", &["web"])),
        ("another zone's ingress", objects::ingress("west.in", "west", "10.0.0.66")),
        ("another zone's ingress, under an own name", objects::ingress("east.in", "west", "10.0.0.66")),
        ("what another zone observes", objects::dataplane_insight("west.web-1", "west")),
    ] {
        let words = ["is not owned by zone east", object.kind().info().name];
        refused(&world, &mut west, what, upserts(vec![item(&object)]), &words).await;
    }
}

#[tokio::test]
async fn a_zone_s_objects_have_its_name() {
    let (world, mut west) = neighbours().await;
    for (what, object) in [
        ("an ingress under another zone's name", objects::ingress("west.in", "east", "10.0.0.66")),
        ("an ingress under a name of no zone", objects::ingress("in", "east", "10.0.0.66")),
        ("an ingress under the zone's name alone", objects::ingress("east", "east", "10.0.0.66")),
        ("an ingress of a zone whose name goes on", objects::ingress("east-2.in", "east", "10.0.0.66")),
        ("an observation under another zone's name", objects::dataplane_insight("west.web-1", "east")),
        ("an observation under a name of no zone", objects::dataplane_insight("web-1", "east")),
    ] {
        let words = ["is not a name of zone east"];
        refused(&world, &mut west, what, upserts(vec![item(&object)]), &words).await;
    }
    let taken =
        [objects::ingress("east.in", "east", "10.0.0.66"), objects::dataplane_insight("east.web-1", "east")];
    let mut east = RawZone::connect(&world, "east").await;
    east.offer(&taken, Vec::new()).await;
    assert!(world.store.get(&taken[0].key()).is_some() && world.store.get(&taken[1].key()).is_some());
}

#[tokio::test]
async fn what_a_zone_sends_is_valid_and_is_what_its_key_says() {
    let (world, mut west) = neighbours().await;
    let offer = item(&objects::mesh_zone("east", &["api"]));
    let text = String::from_utf8(offer.object.clone()).unwrap();
    let with = |object: &str| Item { object: object.as_bytes().to_vec(), ..offer.clone() };
    let foreign_key = |name: &str| Some(key(&ObjectKey::in_mesh(Kind::MeshZone, "default", name)));
    for (what, sent, word) in [
        ("nothing", with(""), "EOF"),
        ("garbage", with("\u{0}\u{1}garbage"), "expected value"),
        ("half an object", with(&text[..text.len() / 2]), "EOF"),
        ("no UTF-8", Item { object: b"{\"object\": \"\xff\xfe\"}".to_vec(), ..offer.clone() }, ""),
        ("another document", with("[1, 2, 3]"), "apiVersion"),
        ("no kind", with(&text.replace("\"kind\":\"MeshZone\"", "\"kind\":\"Nothing\"")), "unknown kind"),
        ("an unknown field", with(&text.replace("\"services\"", "\"extra\":1,\"services\"")), "spec.extra"),
        ("a wrong type", with(&text.replace("\"instances\":1", "\"instances\":-1")), "instances"),
        ("no time", with(&text.replace("2026-01-01T00:00:00Z", "yesterday")), "created"),
        (
            "an invalid label",
            with(&text.replace("\"name\":\"east\"", "\"name\":\"east\",\"labels\":{\"-\":\"-\"}")),
            "metadata.labels",
        ),
        (
            "a namespace",
            with(&text.replace("\"name\":\"east\"", "\"name\":\"east\",\"namespace\":\"n\"")),
            "another key",
        ),
        ("no key", Item { key: None, ..offer.clone() }, "another key"),
        ("another zone's key", Item { key: foreign_key("west"), ..offer.clone() }, "another key"),
    ] {
        refused(&world, &mut west, what, upserts(vec![sent]), &[word]).await;
    }
}

#[tokio::test]
async fn a_delta_is_taken_whole_or_not_at_all() {
    let (world, mut west) = neighbours().await;
    let good = item(&objects::mesh_zone("east", &["api"]));
    let bad = item(&objects::permission("mine"));
    let own = Key { kind: "MeshZone".into(), mesh: "default".into(), name: "east".into() };
    for (what, message) in [
        ("the bad comes last", upserts(vec![good.clone(), bad.clone()])),
        ("the bad comes first", upserts(vec![bad, good.clone()])),
        (
            "the bad is a removal",
            from_zone::Message::Delta(Delta {
                sequence: 7,
                upserts: vec![good],
                removals: vec![own, key(&global_key(Kind::Mesh, "default"))],
            }),
        ),
    ] {
        refused(&world, &mut west, what, message, &["is not owned by zone east"]).await;
    }
}

#[tokio::test]
async fn a_zone_removes_objects_of_its_own_only() {
    let (world, mut west) = neighbours().await;
    for (what, removed) in [
        ("another zone's offer", ObjectKey::in_mesh(Kind::MeshZone, "default", "west")),
        ("another zone's ingress", global_key(Kind::ZoneIngress, "west.in")),
        ("a policy", ObjectKey::in_mesh(Kind::TrafficPermission, "default", "allow-all")),
        ("a mesh", ObjectKey::mesh("default")),
        ("itself", global_key(Kind::Zone, "east")),
        ("what is observed of it", global_key(Kind::ZoneInsight, "east")),
    ] {
        let words = ["is not owned by zone east"];
        refused(&world, &mut west, what, removals(vec![key(&removed)]), &words).await;
    }
    // What is not there needs no owner; its own it removes.
    let gone = ObjectKey::in_mesh(Kind::TrafficPermission, "default", "gone");
    let unknown = Key { kind: "LaterKind".into(), mesh: "default".into(), name: "east".into() };
    let own = ObjectKey::in_mesh(Kind::MeshZone, "default", "east");
    let before = world.owned();
    let mut east = RawZone::connect(&world, "east").await;
    east.offer(&[], vec![key(&gone), unknown]).await;
    assert_eq!(world.owned(), before);
    east.offer(&[], vec![key(&own)]).await;
    assert!(world.store.get(&own).is_none());
    assert_eq!(world.owned().len(), before.len() - 1);
}

#[tokio::test]
async fn a_zone_learns_nothing_by_saying_that_it_holds_what_it_may_not_have() {
    let world = World::start().await;
    let secret = "kind: Secret\nmetadata: {name: ca}\nspec: {mesh: default, value: hidden}\n";
    let secret = put(&world.store, objects::object(secret)).await;
    world.token("east").await;
    let before = world.owned();
    let held = objects::held(&[item(&secret), item(&objects::zone("west", true))]);
    let mut east = RawZone::with(&world, "east", held).await;
    let mut told = east.take().await;
    told.sort();
    assert_eq!(told, ["+Mesh default", "-Secret ca", "-Zone west"]);
    east.ping().await;
    assert_eq!(world.owned(), before);
}
