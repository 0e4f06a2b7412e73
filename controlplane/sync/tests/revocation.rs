//! Credentials of a zone that are revoked: its stream ends at once, and only what was issued since opens another.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::time::{Duration, Instant};

use common::raw::{RawZone, hello};
use common::{HOUR, PATIENCE, World, objects, put};
use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;
use tonic::{Code, Status};
use ursa_crds::{Object, ObjectKey, Spec};
use ursa_sync::zone::{Cause, Link};

/// Generous: what is aimed at is 2 s.
const AT_ONCE: Duration = Duration::from_secs(10);

/// The next whole second, from which on tokens of the zone count.
async fn revoke(world: &World, zone: &str) -> Timestamp {
    let not_before = Timestamp::from_second(Timestamp::now().as_second() + 1).unwrap();
    let known = world.store.get(&ObjectKey::zone(zone)).unwrap();
    let mut object = Object::clone(&known);
    if let Spec::Zone(spec) = &mut object.spec {
        spec.credentials_not_before = Some(not_before);
    }
    put(&world.store, object).await;
    not_before
}

async fn token_of(world: &World, zone: &str, issued: Timestamp) -> String {
    format!("Bearer {}", world.tokens.issue_zone(&world.claims(zone).await, HOUR, issued).unwrap().token)
}

fn assert_revoked(status: &Status) {
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    for word in ["credentials of zone east from before", "were revoked", "ursactl zone create east"] {
        assert!(status.message().contains(word), "no {word:?} in {status:?}");
    }
}

#[tokio::test]
async fn a_zone_s_stream_ends_with_its_credentials_and_others_go_on() {
    let world = World::start().await;
    let mut west = RawZone::connect(&world, "west").await;
    let mut east = RawZone::connect(&world, "east").await;
    let own = objects::mesh_zone("east", &["web"]);
    east.offer(std::slice::from_ref(&own), Vec::new()).await;
    assert_eq!(west.take().await, ["+MeshZone east"]);

    let start = Instant::now();
    let not_before = revoke(&world, "east").await;
    let status = timeout(AT_ONCE, east.next()).await.expect("its stream ends").expect_err("its stream ends");
    println!("the stream has ended after {} ms", start.elapsed().as_millis());
    assert_revoked(&status);
    world.until_seen("east", false).await;
    // What it said of itself stays, as with any zone that is not there.
    west.ping().await;

    // Tokens count in whole seconds.
    let last = not_before - SignedDuration::from_nanos(1);
    for issued in [not_before - SignedDuration::from_secs(1), last] {
        let old = token_of(&world, "east", issued).await;
        let opened = RawZone::open(&world, Some(&old), hello("east", Vec::new())).await;
        assert_revoked(&opened.expect_err("it was issued before"));
    }
    let new = token_of(&world, "east", not_before).await;
    let mut east = RawZone::open(&world, Some(&new), hello("east", Vec::new())).await.unwrap();
    let delta = east.delta().await;
    east.acknowledge(&delta).await;
    east.ping().await;
    // A change of the zone that revokes nothing ends nothing.
    put(&world.store, {
        let known = world.store.get(&ObjectKey::zone("east")).unwrap();
        let mut object = Object::clone(&known);
        if let Spec::Zone(spec) = &mut object.spec {
            spec.enabled = false;
        }
        object
    })
    .await;
    assert_eq!(west.take().await, ["-MeshZone east"]);
    east.ping().await;
    west.ping().await;
}

#[tokio::test]
async fn a_zone_says_why_it_is_refused_and_is_back_with_another_token() {
    let world = World::start().await;
    let mut east = world.zone("east").await;
    let not_before = revoke(&world, "east").await;
    let wait = east.connected.wait_for(|link| matches!(link, Link::Lost { cause: Cause::Refused, .. }));
    let link = timeout(AT_ONCE, wait).await.expect("it is refused").unwrap().clone();
    let Link::Lost { reason, .. } = link else { unreachable!("waited for") };
    assert!(reason.contains("were revoked") && reason.contains("ursactl zone create east"), "{reason}");

    let claims = world.claims("east").await;
    let token = world.tokens.issue_zone(&claims, HOUR, not_before).unwrap().token;
    std::fs::write(world.server.folder.path().join("east.token"), token).unwrap();
    timeout(PATIENCE, east.until_connected(true)).await.expect("it reads the file again");
}
