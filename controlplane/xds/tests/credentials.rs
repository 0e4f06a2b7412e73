//! Who may call: each call proves who calls before anything else is looked at.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::time::Duration;

use common::agent::Agent;
use common::certificates::csr;
use common::{HOUR, World, ZONE, assert_refused, claims, dataplane, web_1, zone_ingress};
use jiff::{SignedDuration, Timestamp};
use rcgen::KeyPair;
use tonic::Code;
use ursa_identity::{DataplaneClaims, ReplicaClaims, Tokens, UserClaims, ZoneClaims};

/// Each call that there is must be refused like this, and change nothing.
async fn refused_everywhere(world: &World, what: &str, agent: &Agent, words: &[&str]) {
    let before = world.everything();
    let request = csr(&KeyPair::generate().unwrap(), &[], &[]);
    let refusals = [
        assert_refused(what, agent.register(web_1()).await, Code::Unauthenticated, words),
        assert_refused(what, agent.sign("default/db-1", &request).await, Code::Unauthenticated, words),
        assert_refused(what, agent.first_delta("default/db-1").await, Code::Unauthenticated, words),
    ];
    let shown = agent.authorization.as_deref().unwrap_or_default();
    let secret = shown.strip_prefix("Bearer ").unwrap_or(shown);
    for refusal in refusals.iter().filter(|_| !secret.is_empty()) {
        for part in secret.split('.').filter(|part| part.len() > 3) {
            assert!(!format!("{refusal:?}").contains(part), "{what}: the refusal shows the token");
        }
    }
    assert!(world.everything() == before, "{what}: it changed the store");
}

#[tokio::test]
async fn no_call_is_answered_without_a_valid_token() {
    let world = World::start().await;
    let (now, web) = (Timestamp::now(), claims("default", Some("web-1"), &[]));
    let past = now - SignedDuration::from_hours(2);
    let foreign = Tokens::generate().unwrap();
    let user = UserClaims { name: "admin".into(), groups: vec!["admin".into()] };
    let zone = ZoneClaims { zone: ZONE.into(), uid: "u".into() };
    let replica = ReplicaClaims { namespace: "ursa-system".into(), replica: "web-1".into() };
    let valid = world.token(&web);
    let (signed, signature) = valid.rsplit_once('.').unwrap();
    let cut = format!("{signed}.{}", &signature[..signature.len() / 2]);
    for (what, token, words) in [
        ("an empty token", String::new(), ["empty"]),
        ("an expired token", world.tokens.issue_dataplane(&web, HOUR, past).unwrap().token, ["expired"]),
        (
            "a token that is signed by another key",
            foreign.issue_dataplane(&web, HOUR, now).unwrap().token,
            ["not issued by this control plane"],
        ),
        (
            "a token of another kind, for users",
            world.tokens.issue_user(&user, HOUR, now).unwrap().token,
            ["another kind"],
        ),
        (
            "a token of another kind, for zones",
            world.tokens.issue_zone(&zone, HOUR, now).unwrap().token,
            ["another kind"],
        ),
        (
            "a token of another kind, for replicas",
            world.tokens.issue_replica(&replica, HOUR, now).unwrap().token,
            ["another kind"],
        ),
        ("no token at all", "s3cret-pa55word".into(), ["cannot be read"]),
        ("half a signature", cut, ["the token"]),
    ] {
        refused_everywhere(&world, what, &world.agent(&token).await, &words).await;
    }
    let mut agent = world.agent(&valid).await;
    agent.authorization = None;
    refused_everywhere(&world, "nothing", &agent, &["a data-plane token is required"]).await;
    agent.authorization = Some("Basic YWRtaW46c2VjcmV0".into());
    refused_everywhere(&world, "another scheme", &agent, &["Bearer TOKEN"]).await;
    agent.authorization = Some(valid);
    refused_everywhere(&world, "a token without its scheme", &agent, &["Bearer TOKEN"]).await;
}

#[tokio::test]
async fn a_token_that_has_become_invalid_is_refused_at_the_next_call() {
    let world = World::start().await;
    let web = claims("default", Some("web-1"), &[]);
    let issued = world.tokens.issue_dataplane(&web, Duration::from_secs(1), Timestamp::now()).unwrap();
    let agent = world.agent(&issued.token).await;
    let wait = async { while agent.register(web_1()).await.is_ok() {} };
    tokio::time::timeout(common::PATIENCE, wait).await.expect("it expires");
    assert_refused("late", agent.register(web_1()).await, Code::Unauthenticated, &["expired"]);
}

#[tokio::test]
async fn a_token_is_for_its_mesh_name_services_and_zone_only() {
    let world = World::start().await;
    let before = world.everything();
    let elsewhere =
        DataplaneClaims { zone: Some("west".into()), ..claims("default", Some("web-1"), &["web"]) };
    for (what, token, words) in [
        ("of another mesh", claims("other", Some("web-1"), &["web"]), ["mesh", "other", "default"]),
        ("of another name", claims("default", Some("web-2"), &["web"]), ["dataplane", "web-2", "web-1"]),
        ("of another service", claims("default", Some("web-1"), &["api"]), ["services", "api", "web"]),
        ("of another service, no name", claims("default", None, &["api"]), ["services", "api", "web"]),
        ("of another zone", elsewhere, ["zone", "west", ZONE]),
    ] {
        let agent = world.agent(&world.token(&token)).await;
        assert_refused(what, agent.register(web_1()).await, Code::PermissionDenied, &words);
    }
    assert!(world.everything() == before, "a refused registration changed the store");
}

#[tokio::test]
async fn a_dataplane_may_not_serve_one_service_more_than_its_token_says() {
    let world = World::start().await;
    let before = world.everything();
    let agent = world.agent(&world.token(&claims("default", Some("web-1"), &["web"]))).await;
    let two = web_1().replace(
        "inbound: [",
        "inbound: [{port: 9000, servicePort: 9001, tags: {ursamesh.io/service: db}}, ",
    );
    assert_refused("two services", agent.register(two).await, Code::PermissionDenied, &["services", "db"]);
    assert!(world.everything() == before);
    agent.register(web_1()).await.unwrap();
}

#[tokio::test]
async fn ingresses_and_dataplanes_have_tokens_of_their_own() {
    let world = World::start().await;
    let before = world.everything();
    let agent = world.agent(&world.token_of("default", "in")).await;
    assert_refused(
        "a data-plane token for an ingress",
        agent.register(zone_ingress("in")).await,
        Code::PermissionDenied,
        &["mesh default", "zone ingress"],
    );
    let ingress = world.agent(&world.token_of("", "in")).await;
    for mesh in ["default", "plain"] {
        assert_refused(
            "an ingress's token for a dataplane",
            ingress.register(dataplane(mesh, "in", "web", "10.0.0.1", 8080, None)).await,
            Code::PermissionDenied,
            &["zone ingress", "dataplane"],
        );
    }
    assert_refused(
        "the token of another ingress",
        ingress.register(zone_ingress("out")).await,
        Code::PermissionDenied,
        &["in", "out"],
    );
    assert!(world.everything() == before, "a refused registration changed the store");
    let session = ingress.register(zone_ingress("in")).await.unwrap();
    assert_eq!(session.welcome.node_id, format!("/{ZONE}.in"));
}
