//! Which streams global takes: one a zone, of a zone that holds a token.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::collections::BTreeMap;

use common::raw::{RawZone, hello};
use common::{HOUR, World, global_key, objects};
use jiff::{SignedDuration, Timestamp};
use tonic::{Code, Status};
use ursa_crds::{Kind, ObjectKey};
use ursa_identity::{DataplaneClaims, Tokens, UserClaims};
use ursa_proto::sync::{Acknowledgement, Delta, Ping, from_global, from_zone};

/// The call must be refused like this, and change nothing.
async fn refused(world: &World, what: &str, authorization: Option<&str>, words: &[&str]) -> Status {
    let before = world.everything();
    let status = RawZone::open(world, authorization, hello("east", Vec::new())).await.expect_err(what);
    assert_eq!(status.code(), Code::Unauthenticated, "{what}: {status:?}");
    for word in words {
        assert!(status.message().contains(word), "{what}: no {word:?} in {:?}", status.message());
    }
    assert!(world.everything() == before, "{what}: it changed the store");
    assert!(!world.global.zones().contains_key("east"), "{what}: it made a zone known");
    status
}

#[tokio::test]
async fn a_stream_is_opened_with_a_valid_zone_token_only() {
    let world = World::start().await;
    let (now, east) = (Timestamp::now(), world.claims("east").await);
    let past = now - SignedDuration::from_hours(2);
    let dataplane = DataplaneClaims {
        mesh: "default".into(),
        zone: Some("east".into()),
        name: Some("east".into()),
        services: Vec::new(),
        tags: BTreeMap::new(),
    };
    let user = UserClaims { name: "admin".into(), groups: vec!["admin".into()] };
    let foreign = Tokens::generate().unwrap();
    for (what, token, words) in [
        ("an empty one", String::new(), ["empty"]),
        ("an expired one", world.tokens.issue_zone(&east, HOUR, past).unwrap().token, ["expired"]),
        ("a foreign one", foreign.issue_zone(&east, HOUR, now).unwrap().token, ["not issued by this"]),
        (
            "a data-plane token",
            world.tokens.issue_dataplane(&dataplane, HOUR, now).unwrap().token,
            ["another kind"],
        ),
        ("a user's", world.tokens.issue_user(&user, HOUR, now).unwrap().token, ["another kind"]),
        ("none", "s3cret-pa55word".into(), ["cannot be read"]),
    ] {
        let status = refused(&world, what, Some(&format!("Bearer {token}")), &words).await;
        for part in token.split('.').filter(|part| part.len() > 3) {
            assert!(!format!("{status:?}").contains(part), "{what}: the refusal shows the token");
        }
    }
    refused(&world, "nothing", None, &["token"]).await;
    refused(&world, "another scheme", Some("Basic ZWFzdDplYXN0"), &["token"]).await;
}

#[tokio::test]
async fn a_token_is_for_one_zone_whatever_the_hello_says() {
    let world = World::start().await;
    let mut west = RawZone::connect(&world, "west").await;
    let authorization = format!("Bearer {}", world.token("east").await);
    let before = world.everything();
    for claimed in ["west", "", "EAST", "east.west"] {
        let opened = RawZone::open(&world, Some(&authorization), hello(claimed, Vec::new())).await;
        let status = opened.expect_err(claimed);
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
        assert!(status.message().contains("zone east"), "{status:?}");
        assert!(status.message().contains(claimed), "{status:?}");
        west.ping().await;
    }
    assert!(world.everything() == before, "a refused hello changed the store");
    assert!(!world.global.zones().contains_key("east"), "a refused hello made a zone known");
    assert!(world.global.zones()["west"].connected);
}

#[tokio::test]
async fn the_hello_comes_first_and_once() {
    let world = World::start().await;
    let authorization = format!("Bearer {}", world.token("east").await);
    let before = world.everything();
    let delta = Delta {
        sequence: 1,
        upserts: vec![objects::item(&objects::mesh_zone("east", &["web"]))],
        removals: Vec::new(),
    };
    for first in [
        from_zone::Message::Ping(Ping { nonce: 1 }),
        from_zone::Message::Acknowledgement(Acknowledgement { sequence: 1 }),
        from_zone::Message::Delta(delta),
    ] {
        let status = RawZone::open(&world, Some(&authorization), first).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains("ZoneHello"), "{status:?}");
    }
    assert!(world.everything() == before, "a stream without a hello changed the store");
    let east = RawZone::connect(&world, "east").await;
    east.refused(&world, "a second hello", hello("east", Vec::new()), &[Code::InvalidArgument], &[]).await;
}

#[tokio::test]
async fn a_second_stream_of_a_zone_replaces_the_first() {
    let world = World::start().await;
    let mut west = RawZone::connect(&world, "west").await;
    let mut first = RawZone::connect(&world, "east").await;
    let mut second = RawZone::connect(&world, "east").await;
    let status = first.next().await.expect_err("the first has ended");
    assert_eq!(status.code(), Code::Aborted, "{status:?}");
    // What ended is the stream, not the zone.
    second.offer(&[objects::mesh_zone("east", &["web"])], Vec::new()).await;
    assert_eq!(west.take().await, ["+MeshZone east"]);
    world.until_seen("east", true).await;
    second.ping().await;
    drop(second);
    world.until_seen("east", false).await;
    west.ping().await;
    assert!(world.global.zones()["west"].connected);
}

#[tokio::test]
async fn a_zone_that_connects_is_told_of_no_other_zone() {
    let world = World::start().await;
    let west = common::put(&world.store, objects::zone("west", false)).await;
    let mut east = RawZone::with(&world, "east", Vec::new()).await;
    let _west = RawZone::connect(&world, "west").await;
    assert_eq!(
        world.store.get(&global_key(Kind::Zone, "west")),
        Some(west),
        "it was disabled before it came"
    );
    let from_global::Message::Delta(delta) = east.next().await.unwrap() else {
        panic!("a delta comes first")
    };
    assert_eq!(
        objects::names(&delta.upserts),
        ["Mesh default"],
        "zones and what is observed of them stay here"
    );
}

#[tokio::test]
async fn a_zone_that_is_deleted_is_out_until_it_gets_another_token() {
    let world = World::start().await;
    let mut west = RawZone::connect(&world, "west").await;
    let mut east = RawZone::connect(&world, "east").await;
    let own = objects::mesh_zone("east", &["web"]);
    east.offer(std::slice::from_ref(&own), Vec::new()).await;
    assert_eq!(west.take().await, ["+MeshZone east"]);
    let former = format!("Bearer {}", world.token("east").await);
    world.store.delete(&ObjectKey::zone("east"), None).await.unwrap();
    assert_eq!(west.take().await, ["-MeshZone east"], "others trust it no more");
    let status = east.next().await.expect_err("its stream ends");
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    common::until(&world.store, "forgotten", |store| {
        store.get(&global_key(Kind::ZoneInsight, "east")).is_none()
    })
    .await;
    refused(
        &world,
        "a deleted zone's",
        Some(&former),
        &["zone east was deleted", "ursactl zone create east"],
    )
    .await;
    // One of the same name is another zone.
    let mut east = RawZone::connect(&world, "east").await;
    east.offer(&[own], Vec::new()).await;
    assert_eq!(west.take().await, ["+MeshZone east"]);
    let opened = RawZone::open(&world, Some(&former), hello("east", Vec::new())).await;
    assert_eq!(opened.unwrap_err().code(), Code::Unauthenticated);
    east.ping().await;
}
