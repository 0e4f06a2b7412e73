//! What goes where: policies down, offers to the other zones, and nothing twice.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::link::Link;
use common::objects::{self, key};
use common::raw::RawZone;
use common::{World, put, until};
use ursa_crds::{KINDS, Kind, Object, ObjectKey, Owner};
use ursa_proto::sync::Held;
use ursa_store::Store;

fn offer_of(zone: &str) -> ObjectKey {
    ObjectKey::in_mesh(Kind::MeshZone, "default", zone)
}

fn policy(name: &str) -> ObjectKey {
    ObjectKey::in_mesh(Kind::TrafficPermission, "default", name)
}

#[tokio::test]
async fn what_a_zone_offers_reaches_the_others_and_never_itself() {
    let world = World::start().await;
    let [mut east, mut west, mut north] = [
        RawZone::connect(&world, "east").await,
        RawZone::connect(&world, "west").await,
        RawZone::connect(&world, "north").await,
    ];
    east.offer(
        &[objects::mesh_zone("east", &["web"]), objects::ingress("east.in", "east", "10.0.0.1")],
        vec![],
    )
    .await;
    for other in [&mut west, &mut north] {
        until_told(other, &["+MeshZone east", "+ZoneIngress east.in"]).await;
    }
    // What it observes goes to global alone.
    east.offer(&[objects::dataplane_insight("east.web-1", "east")], Vec::new()).await;
    assert!(world.store.get(&ObjectKey::in_mesh(Kind::DataplaneInsight, "default", "east.web-1")).is_some());
    east.offer(&[], vec![key(&offer_of("east"))]).await;
    assert_eq!(west.take().await, ["-MeshZone east"]);
    assert_eq!(north.take().await, ["-MeshZone east"]);
    // A later message comes next: to itself nothing was said all the while.
    put(&world.store, objects::permission("p")).await;
    assert_eq!(east.take().await, ["+TrafficPermission p"]);
    // Also not when it comes back and says that it holds nothing.
    let mut again = RawZone::with(&world, "east", Vec::new()).await;
    assert_eq!(again.take().await, ["+Mesh default", "+TrafficPermission p"]);
    again.ping().await;
    let known = again.welcome.held.iter().map(|held| objects::text(held.key.as_ref().unwrap()));
    assert_eq!(known.collect::<Vec<_>>(), ["ZoneIngress east.in", "DataplaneInsight east.web-1"]);
}

#[tokio::test]
async fn a_disabled_zone_s_offers_are_withdrawn_until_it_is_enabled() {
    let world = World::start().await;
    let [mut east, mut west] =
        [RawZone::connect(&world, "east").await, RawZone::connect(&world, "west").await];
    west.offer(&[objects::mesh_zone("west", &["db"])], Vec::new()).await;
    assert_eq!(east.take().await, ["+MeshZone west"]);
    east.offer(
        &[objects::mesh_zone("east", &["web"]), objects::ingress("east.in", "east", "10.0.0.1")],
        vec![],
    )
    .await;
    until_told(&mut west, &["+MeshZone east", "+ZoneIngress east.in"]).await;

    put(&world.store, objects::zone("east", false)).await;
    until_told(&mut west, &["-MeshZone east", "-ZoneIngress east.in"]).await;
    // While it is disabled its news stay with global, a zone that comes anew is not told, and it gets policies.
    east.offer(&[objects::mesh_zone("east", &["web", "api"])], Vec::new()).await;
    let mut north = RawZone::with(&world, "north", Vec::new()).await;
    assert_eq!(north.take().await, ["+Mesh default", "+MeshZone west"]);
    west.ping().await;
    put(&world.store, objects::permission("p")).await;
    for zone in [&mut east, &mut west, &mut north] {
        assert_eq!(zone.take().await, ["+TrafficPermission p"]);
    }
    assert!(world.store.get(&offer_of("east")).is_some(), "global keeps it");

    put(&world.store, objects::zone("east", true)).await;
    until_told(&mut west, &["+MeshZone east", "+ZoneIngress east.in"]).await;
    until_told(&mut north, &["+MeshZone east", "+ZoneIngress east.in"]).await;
    east.ping().await;
}

/// Takes deltas until exactly this was told, in whatever parts.
async fn until_told(zone: &mut RawZone, wanted: &[&str]) {
    let mut told = zone.take().await;
    while told.len() < wanted.len() {
        told.extend(zone.take().await);
    }
    told.sort();
    assert_eq!(told, wanted);
}

#[tokio::test]
async fn a_deletion_at_global_reaches_a_zone_also_when_it_was_away() {
    let world = World::start().await;
    let link = Link::to(&world.server.address).await;
    let mut east = world.server.start_zone("east", &link.address, &world.token("east").await);
    east.until_connected(true).await;
    for name in ["first", "second", "third"] {
        put(&world.store, objects::permission(name)).await;
        until(&east.store, "copied", |store| store.get(&policy(name)).is_some()).await;
    }
    world.store.delete(&policy("first"), None).await.unwrap();
    until(&east.store, "deleted", |store| store.get(&policy("first")).is_none()).await;

    link.cut();
    east.until_connected(false).await;
    world.until_seen("east", false).await;
    world.store.delete(&policy("second"), None).await.unwrap();
    // The zone's own goes on; nothing of global's goes while it is away.
    put(&east.store, objects::dataplane("web-1")).await;
    put(&east.store, objects::mesh_zone("east", &["web"])).await;
    assert!(east.store.get(&policy("second")).is_some(), "a disconnect deletes nothing");

    link.mend();
    east.until_connected(true).await;
    until(&east.store, "deleted", |store| store.get(&policy("second")).is_none()).await;
    until(&world.store, "offered", |store| store.get(&offer_of("east")).is_some()).await;
    assert!(east.store.get(&policy("third")).is_some());
    assert_eq!(east.store.list(Kind::Dataplane).len(), 1, "what is the zone's own stays");
    assert!(world.store.list(Kind::Dataplane).is_empty(), "and stays there");
}

#[tokio::test]
async fn what_a_zone_withdraws_while_it_is_away_is_withdrawn_everywhere() {
    let world = World::start().await;
    let link = Link::to(&world.server.address).await;
    let mut east = world.server.start_zone("east", &link.address, &world.token("east").await);
    east.until_connected(true).await;
    let west = world.zone("west").await;
    put(&east.store, objects::mesh_zone("east", &["web"])).await;
    until(&west.store, "offered", |store| store.get(&offer_of("east")).is_some()).await;
    link.cut();
    east.until_connected(false).await;
    east.store.delete(&offer_of("east"), None).await.unwrap();
    assert!(west.store.get(&offer_of("east")).is_some(), "a disconnect withdraws nothing");
    link.mend();
    until(&world.store, "withdrawn", |store| store.get(&offer_of("east")).is_none()).await;
    until(&west.store, "withdrawn", |store| store.get(&offer_of("east")).is_none()).await;
}

#[tokio::test]
async fn an_object_that_did_not_change_is_not_sent_again() {
    let world = World::start().await;
    for name in ["a", "b", "c"] {
        put(&world.store, objects::permission(name)).await;
    }
    let mut east = RawZone::with(&world, "east", Vec::new()).await;
    let delta = east.delta().await;
    assert_eq!(delta.upserts.len(), 4);
    east.acknowledge(&delta).await;
    east.ping().await;
    // Written as it is: not a change.
    put(&world.store, objects::permission("a")).await;
    east.ping().await;
    drop(east);

    let held: Vec<Held> = objects::held(&delta.upserts);
    let mut east = RawZone::with(&world, "east", held.clone()).await;
    east.ping().await;
    put(&world.store, objects::permission("d")).await;
    assert_eq!(east.take().await, ["+TrafficPermission d"], "the first delta has the change and no more");
    drop(east);

    // What changed while it was away is all that it is told when it comes back.
    put(&world.store, objects::large_permission("b", 10)).await;
    world.store.delete(&policy("c"), None).await.unwrap();
    let mut east = RawZone::with(&world, "east", held).await;
    let told = east.take().await;
    assert_eq!(told, ["+TrafficPermission b", "+TrafficPermission d", "-TrafficPermission c"]);
    east.ping().await;
}

#[tokio::test]
async fn copies_are_what_their_owner_has_and_stay_where_they_may_be() {
    let world = World::start().await;
    let (east, west) = (world.zone("east").await, world.zone("west").await);
    put(&world.store, objects::permission("p")).await;
    let secret = "kind: Secret\nmetadata: {name: ca}\nspec: {mesh: default, value: hidden}\n";
    put(&world.store, objects::object(secret)).await;
    put(&east.store, objects::dataplane("web-1")).await;
    put(&east.store, objects::dataplane_insight("east.web-1", "east")).await;
    put(&east.store, objects::mesh_zone("east", &["web"])).await;
    put(&west.store, objects::mesh_zone("west", &["db"])).await;
    for store in [&world.store, &east.store, &west.store] {
        let complete = |store: &Store| {
            ["east", "west"].iter().all(|zone| store.get(&offer_of(zone)).is_some())
                && store.get(&policy("p")).is_some()
        };
        until(store, "complete", complete).await;
    }
    let observed = ObjectKey::in_mesh(Kind::DataplaneInsight, "default", "east.web-1");
    until(&world.store, "observed", |store| store.get(&observed).is_some()).await;
    for info in KINDS {
        let [global, of_east, of_west] =
            [&world.store, &east.store, &west.store].map(|store| all(store, info.kind));
        match info.owner {
            Owner::Global | Owner::Zone => {
                assert_eq!(global, of_east, "{}", info.name);
                assert_eq!(global, of_west, "{}", info.name);
            }
            Owner::GlobalOnly | Owner::GlobalObserved => assert!(of_east.is_empty() && of_west.is_empty()),
            Owner::ZoneOnly => assert!(global.is_empty() && of_west.is_empty(), "{}", info.name),
            Owner::ZoneObserved => assert!(global == of_east && of_west.is_empty(), "{}", info.name),
        }
    }
}

/// Every object of a kind with what its owner set: all but the place in a store's history.
fn all(store: &Store, kind: Kind) -> BTreeMap<ObjectKey, Object> {
    let object = |object: Arc<Object>| {
        let mut object = Arc::unwrap_or_clone(object);
        object.meta.resource_version = 0;
        (object.key(), object)
    };
    store.list(kind).into_iter().map(object).collect()
}
