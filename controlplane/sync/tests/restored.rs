//! A global control plane that was lost, and restored from a backup that is older than what zones know.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

mod common;

use std::collections::BTreeMap;

use common::objects;
use common::{World, Zone, global_key, put, until};
use ursa_crds::{Kind, ObjectKey};
use ursa_store::names::{ADOPTED, UNHEARD};
use ursa_store::{Snapshot, Store};
use ursa_sync::zone::{Cause, Link};

/// The same global control plane anew, from this snapshot of the former.
async fn restored(former: &World, snapshot: Snapshot) -> World {
    let world = World::start().await;
    restore(&world, former, snapshot).await;
    world
}

async fn restore(world: &World, former: &World, snapshot: Snapshot) {
    let zones: Vec<String> = snapshot
        .objects
        .iter()
        .filter(|object| object.kind() == Kind::Zone)
        .map(|object| object.meta.name.clone())
        .collect();
    let further = BTreeMap::from([
        (ADOPTED.to_owned(), format!("at {}", jiff::Timestamp::now())),
        (UNHEARD.to_owned(), format!("{zones:?}")),
    ]);
    world.store.restore(snapshot, Vec::new(), further).await.unwrap();
    world.tokens.replace(&former.tokens.private_pem()).unwrap();
}

/// The zone with what it has, at another control plane, with the token that it has.
async fn moved(zone: Zone, name: &str, token: &str, to: &World) -> Zone {
    let mut there = again(&zone.store, name, token, to);
    there.until_connected(true).await;
    there
}

fn again(store: &Store, name: &str, token: &str, to: &World) -> Zone {
    to.server.start_replica(name, &to.server.address, token, store.clone(), true)
}

fn offered(store: &Store, zone: &str) -> Option<Vec<String>> {
    let offer = store.get(&objects::mesh_zone(zone, &["any"]).key())?;
    let value = offer.to_value();
    let services = value["spec"]["services"].as_array().cloned().unwrap_or_default();
    Some(
        services
            .iter()
            .map(|service| service["tags"]["ursamesh.io/service"].as_str().unwrap().to_owned())
            .collect(),
    )
}

fn waiting(world: &World) -> String {
    String::from_utf8(world.store.private(UNHEARD).unwrap()).unwrap()
}

/// Waits until global waits for these zones only.
async fn until_waiting(world: &World, expected: &str) {
    let mut changes = world.store.private_changes();
    while waiting(world) != expected {
        let changed = tokio::time::timeout(common::PATIENCE, changes.changed()).await;
        changed.unwrap_or_else(|_| panic!("still waiting for {}", waiting(world))).unwrap();
    }
}

fn has(store: &Store, permission: &str) -> bool {
    store.get(&objects::permission(permission).key()).is_some()
}

#[tokio::test]
async fn zones_follow_it_and_keep_what_they_know_of_each_other() {
    let former = World::start().await;
    let (east_token, west_token) = (former.token("east").await, former.token("west").await);
    let (east, west) = (former.zone("east").await, former.zone("west").await);
    put(&former.store, objects::permission("kept")).await;
    put(&east.store, objects::mesh_zone("east", &["web"])).await;
    until(&west.store, "the offer", |store| offered(store, "east").is_some()).await;
    let backup = former.store.snapshot().await.unwrap();
    // After the backup.
    put(&former.store, objects::permission("late")).await;
    put(&east.store, objects::mesh_zone("east", &["web", "api"])).await;
    put(&east.store, objects::ingress("east.in", "east", "192.0.2.1")).await;
    let all = ["web", "api"].map(str::to_owned).to_vec();
    until(&west.store, "the offer", |store| offered(store, "east").as_ref() == Some(&all)).await;
    until(&west.store, "the ingress", |store| store.get(&global_key(Kind::ZoneIngress, "east.in")).is_some())
        .await;
    until(&west.store, "the policy", |store| has(store, "late")).await;
    for zone in [&east, &west] {
        zone.leads.send_replace(false);
    }

    let world = restored(&former, backup).await;
    let (_, mut changes) = west.store.watch();
    let west = moved(west, "west", &west_token, &world).await;
    until(&west.store, "without what came after the backup", |store| !has(store, "late")).await;
    assert!(has(&west.store, "kept"));
    until_waiting(&world, r#"["east"]"#).await;
    // Global knows less of east than west does.
    assert_eq!(offered(&world.store, "east"), Some(vec!["web".to_owned()]));
    put(&world.store, objects::permission("new")).await;
    until(&west.store, "a new policy", |store| has(store, "new")).await;
    assert_eq!(offered(&west.store, "east").as_ref(), Some(&all));

    put(&east.store, objects::mesh_zone("east", &["api", "db"])).await;
    let now = ["api", "db"].map(str::to_owned).to_vec();
    let east = moved(east, "east", &east_token, &world).await;
    until(&west.store, "what east has now", |store| offered(store, "east").as_ref() == Some(&now)).await;
    assert_eq!(waiting(&world), "[]");
    assert!(has(&east.store, "new"));
    let seen = changes.next().await.unwrap();
    let of_east = seen.iter().filter(|change| change.key.name.starts_with("east"));
    assert!(of_east.clone().all(|change| change.object.is_some()), "it was never without: {seen:?}");
    assert!(west.store.get(&global_key(Kind::ZoneIngress, "east.in")).is_some());
}

#[tokio::test]
async fn a_zone_that_is_not_wanted_any_more_is_not_waited_for() {
    let former = World::start().await;
    let west_token = former.token("west").await;
    let (east, north) = (former.zone("east").await, former.zone("north").await);
    let west = former.zone("west").await;
    put(&east.store, objects::mesh_zone("east", &["web"])).await;
    put(&north.store, objects::mesh_zone("north", &["web"])).await;
    let both = |store: &Store| offered(store, "east").is_some() && offered(store, "north").is_some();
    until(&west.store, "the offers", both).await;
    let backup = former.store.snapshot().await.unwrap();
    for zone in [&east, &west, &north] {
        zone.leads.send_replace(false);
    }
    let world = restored(&former, backup).await;
    let west = moved(west, "west", &west_token, &world).await;
    until_waiting(&world, r#"["east","north"]"#).await;
    assert!(both(&west.store));
    put(&world.store, objects::zone("east", false)).await;
    until(&west.store, "without the disabled zone", |store| offered(store, "east").is_none()).await;
    world.store.delete(&ObjectKey::zone("north"), None).await.unwrap();
    until(&west.store, "without the deleted zone", |store| offered(store, "north").is_none()).await;
    assert_eq!(waiting(&world), r#"["east"]"#);
}

#[tokio::test]
async fn a_zone_that_came_too_early_begins_anew_and_one_that_the_backup_does_not_know_is_refused() {
    let former = World::start().await;
    let token = former.token("east").await;
    let east = former.zone("east").await;
    put(&former.store, objects::permission("kept")).await;
    until(&east.store, "the policy", |store| has(store, "kept")).await;
    let backup = former.store.snapshot().await.unwrap();
    let late_token = former.token("late").await;
    let late = former.zone("late").await;
    until(&late.store, "the policy", |store| has(store, "kept")).await;
    for zone in [&east, &late] {
        zone.leads.send_replace(false);
    }
    // An administrator gave it a token of the new control plane before.
    let world = World::start().await;
    let mut early = again(&east.store, "east", &world.token("east").await, &world);
    let foreign = |link: &Link| matches!(link, Link::Connected { followed: false });
    tokio::time::timeout(common::PATIENCE, early.connected.wait_for(foreign)).await.unwrap().unwrap();
    restore(&world, &former, backup).await;
    std::fs::write(world.server.folder.path().join("east.token"), token).unwrap();
    let followed = |link: &Link| matches!(link, Link::Connected { followed: true });
    tokio::time::timeout(common::PATIENCE, early.connected.wait_for(followed)).await.unwrap().unwrap();
    assert!(has(&early.store, "kept"));

    let mut late = again(&late.store, "late", &late_token, &world);
    let refused = |link: &Link| matches!(link, Link::Lost { cause: Cause::Refused, .. });
    tokio::time::timeout(common::PATIENCE, late.connected.wait_for(refused)).await.unwrap().unwrap();
    assert!(has(&late.store, "kept"), "it goes on with what it has");
}
