//! Of the replicas of a control plane, which share a store, the one that leads has the streams between zones and global.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

mod common;

use common::fake::Fake;
use common::objects;
use common::{PATIENCE, Server, World, Zone, global_key, put, until};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use ursa_crds::{Kind, Object, Spec};
use ursa_index::SigningRequest;
use ursa_proto::sync::{IntermediateSigned, from_global, from_zone};
use ursa_store::Store;
use ursa_sync::global::Global;
use ursa_sync::zone::{Cause, Link};

#[tokio::test]
async fn the_replica_that_leads_has_the_stream_and_the_others_see_what_comes() {
    let world = World::start().await;
    let store = Store::memory();
    let token = world.token("east").await;
    let start =
        |leads| world.server.start_replica("east", &world.server.address, &token, store.clone(), leads);
    let (mut first, mut second) = (start(true), start(false));
    first.until_connected(true).await;
    put(&world.store, objects::permission("before")).await;
    until(&second.store, "the copy", |store| store.get(&objects::permission("before").key()).is_some()).await;
    // Were there two streams, each would end the other.
    assert_eq!(*second.connected.borrow(), Link::Idle);
    assert!(first.connected.borrow_and_update().is_connected());
    assert!(!first.connected.has_changed().unwrap(), "its stream has never ended");

    first.leads.send_replace(false);
    first.until_connected(false).await;
    assert_eq!(*first.connected.borrow(), Link::Idle, "it does not try");
    world.until_seen("east", false).await;
    second.leads.send_replace(true);
    second.until_connected(true).await;
    put(&world.store, objects::permission("after")).await;
    put(&second.store, objects::mesh_zone("east", &["web"])).await;
    until(&first.store, "the copy", |store| store.get(&objects::permission("after").key()).is_some()).await;
    let offer = objects::mesh_zone("east", &["web"]).key();
    until(&world.store, "the zone's offer", |store| store.get(&offer).is_some()).await;
    assert!(world.store.get(&global_key(Kind::ZoneInsight, "east")).is_some());
    assert_eq!(*first.connected.borrow(), Link::Idle);
}

#[tokio::test]
async fn one_that_is_alone_leads_for_good() {
    let world = World::start().await;
    let zone = world.server.start_zone("east", &world.server.address, &world.token("east").await);
    let Zone { store, connected, leads, signing: _signing } = zone;
    drop(leads);
    put(&world.store, objects::permission("p")).await;
    until(&store, "the copy", |store| store.get(&objects::permission("p").key()).is_some()).await;
    put(&store, objects::mesh_zone("east", &["web"])).await;
    let offer = objects::mesh_zone("east", &["web"]).key();
    until(&world.store, "the zone's offer", |store| store.get(&offer).is_some()).await;
    assert!(connected.borrow().is_connected());
}

#[tokio::test]
async fn what_is_asked_of_global_waits_for_the_lead_and_what_nobody_waits_for_is_not_asked() {
    let mut fake = Fake::start().await;
    let zone = fake.server.start_replica("east", &fake.server.address, "unread", Store::memory(), false);
    let ask = |backend: &str| {
        let (reply, answer) = oneshot::channel();
        let (mesh, backend, csr) = ("default".into(), backend.into(), Vec::new());
        zone.signing.send(SigningRequest { mesh, backend, csr, reply }).unwrap();
        answer
    };
    // Another replica had this one signed.
    drop(ask("first"));
    let answer = ask("second");
    zone.leads.send_replace(true);
    let (mut stream, _) = fake.accept().await;
    stream.welcome(Vec::new()).await;
    let Some(from_zone::Message::SignIntermediate(request)) = stream.news().await else {
        panic!("it asks");
    };
    assert_eq!(request.backend, "second");
    let signed = IntermediateSigned { id: request.id, chain: "a chain".into(), reason: String::new() };
    stream.send(from_global::Message::IntermediateSigned(signed)).await;
    assert_eq!(timeout(PATIENCE, answer).await.unwrap().unwrap(), Ok("a chain".to_owned()));
}

#[tokio::test]
async fn how_it_stands_is_told_with_the_reason() {
    let world = World::start().await;
    let at = &world.server.address;
    let mut east = world.server.start_zone("east", at, &world.token("west").await);
    let refused = east.connected.wait_for(|link| matches!(link, Link::Lost { cause: Cause::Refused, .. }));
    timeout(PATIENCE, refused).await.expect("a token of another zone is refused").unwrap();
    let closed = common::link::Link::to(at).await;
    closed.cut();
    let mut east = world.server.start_zone("east", &closed.address, &world.token("east").await);
    let lost = east.connected.wait_for(|link| matches!(link, Link::Lost { cause: Cause::Unreachable, .. }));
    timeout(PATIENCE, lost).await.expect("it is out of reach").unwrap();
    closed.mend();
    east.until_connected(true).await;
    assert_eq!(*east.connected.borrow(), Link::Connected { followed: true });
}

#[tokio::test]
async fn global_has_zones_only_while_it_leads() {
    let world = World::start().await;
    let leads = watch::Sender::new(false);
    let replica = Global::new(world.store.clone(), world.tokens.clone(), leads.subscribe());
    let server = Server::start(replica.routes()).await;
    let mut east = server.start_zone("east", &server.address, &world.token("east").await);
    let waits = |link: &Link| matches!(link, Link::Lost { cause: Cause::Unreachable, reason } if reason.contains("does not lead"));
    timeout(PATIENCE, east.connected.wait_for(waits)).await.unwrap().unwrap();
    assert!(replica.zones().is_empty());
    leads.send_replace(true);
    east.until_connected(true).await;
    until(&world.store, "seen", |store| is_connected(store, "east")).await;
    leads.send_replace(false);
    east.until_connected(false).await;
    assert!(replica.zones().is_empty());
    // The one that leads now says how it stands.
    assert!(is_connected(&world.store, "east"));
    leads.send_replace(true);
    east.until_connected(true).await;
}

fn is_connected(store: &Store, zone: &str) -> bool {
    match store.get(&global_key(Kind::ZoneInsight, zone)).as_deref() {
        Some(Object { spec: Spec::ZoneInsight(spec), .. }) => spec.connected,
        _ => false,
    }
}
