//! Tokens that a mesh revokes: streams of who came with one end at once, also by a certificate that was signed on it, and nobody
//! comes in by either again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

mod common;

use std::time::{Duration, Instant};

use common::agent::{Ads, Agent, Session};
use common::certificates::{Leaf, csr};
use common::{PATIENCE, World, ZONE, assert_refused, claims, dataplane, put, web_1};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio::time::timeout;
use tonic::{Code, Status};
use ursa_crds::{Kind, ObjectKey, Spec};

/// Generous: what is aimed at is 2 s.
const AT_ONCE: Duration = Duration::from_secs(10);

/// The mesh `default` with mutual TLS, which has revoked these.
async fn revoke(world: &World, ids: &[&str]) {
    let entry = |id: &&str| format!("{{id: {id}, revokedAt: '2026-01-02T03:04:05Z', reason: lost laptop}}");
    let tokens: Vec<String> = ids.iter().map(entry).collect();
    let mesh = format!(
        "apiVersion: ursamesh.io/v1alpha1\nkind: Mesh\nmetadata: {{name: default}}\nspec:\n  \
         mtls: {{enabledBackend: ca-1, backends: [{{name: ca-1, type: Builtin}}]}}\n  revokedTokens: [{}]\n",
        tokens.join(", ")
    );
    put(&world.store, &mesh).await;
}

/// A token for any proxy of service web, and its id.
fn token(world: &World) -> (String, String) {
    let token = world.token(&claims("default", None, &["web"]));
    let id = world.tokens.verify_dataplane(&token, jiff::Timestamp::now()).unwrap().id;
    (token, id)
}

/// A certificate that is signed on the agent's token.
async fn signed(agent: &Agent, proxy: &str) -> Leaf {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let chain = agent.sign(proxy, &csr(&key, &[], &[])).await.unwrap().chain;
    Leaf { chain, key }
}

/// What streams end with: whichever they hear of first, that of the token or that of its dataplane.
fn assert_ended(what: &str, status: &Status, id: &str) {
    let code = status.code();
    assert!(matches!(code, Code::Unauthenticated | Code::PermissionDenied), "{what}: {status:?}");
    for word in [&format!("token {id} was revoked at 2026-01-02T03:04:05Z"), "lost laptop", "ask for another"]
    {
        assert!(status.message().contains(word), "{what}: no {word:?} in {status:?}");
    }
}

async fn session_end(session: &mut Session) -> Status {
    let wait = async {
        loop {
            if let Err(status) = session.next().await {
                return status;
            }
        }
    };
    timeout(AT_ONCE, wait).await.expect("the session ends")
}

async fn ads_end(ads: &mut Ads) -> Status {
    let wait = async {
        loop {
            if let Err(status) = ads.next().await {
                return status;
            }
        }
    };
    timeout(AT_ONCE, wait).await.expect("the stream ends")
}

async fn refused(what: &str, agent: &Agent, proxy: &str, resource: &str, id: &str) {
    let request = csr(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(), &[], &[]);
    let words = [id, "was revoked at 2026-01-02T03:04:05Z", "ask for another"];
    assert_refused(what, agent.register(resource).await, Code::Unauthenticated, &words);
    assert_refused(what, agent.sign(proxy, &request).await, Code::Unauthenticated, &words);
    assert_refused(what, agent.first_delta(proxy).await, Code::Unauthenticated, &words);
}

/// How many instances of a service the zone offers.
fn offered(store: &ursa_store::Store, service: &str) -> Option<u32> {
    match &store.get(&ObjectKey::in_mesh(Kind::MeshZone, "default", ZONE))?.spec {
        Spec::MeshZone(spec) => {
            let of = spec.services.iter().filter(|offered| offered.tags["ursamesh.io/service"] == service);
            Some(of.map(|offered| offered.instances).sum())
        }
        _ => None,
    }
}

fn token_id(world: &World, name: &str) -> Option<String> {
    match &world.store.get(&ObjectKey::in_mesh(Kind::Dataplane, "default", name))?.spec {
        Spec::Dataplane(spec) => spec.token_id.clone(),
        _ => None,
    }
}

#[tokio::test]
async fn a_revoked_token_ends_what_is_open_and_opens_nothing_again() {
    let world = World::start().await;
    let (first, id) = token(&world);
    let agent = world.agent(&first).await;
    let mut session = agent.register(web_1()).await.unwrap();
    assert_eq!(token_id(&world, "web-1").as_ref(), Some(&id));
    let mut ads = agent.ads("default/web-1").await;
    ads.next().await.unwrap();
    let leaf = signed(&agent, "default/web-1").await;
    let by_leaf = leaf.agent(&world).await;
    // Renewed by certificates alone, it still descends from the token.
    let by_leaf = signed(&by_leaf, "default/web-1").await.agent(&world).await;
    let mut leaf_session = by_leaf.register(web_1()).await.unwrap();
    assert_eq!(token_id(&world, "web-1").as_ref(), Some(&id));
    let mut leaf_ads = by_leaf.ads("default/web-1").await;
    leaf_ads.next().await.unwrap();
    session.send(ready()).await;
    world.until(|store| offered(store, "web") == Some(1)).await;
    // Another proxy of the service has a token of its own.
    let (other, _) = token(&world);
    let other = world.agent(&other).await;
    let web_2 = dataplane("default", "web-2", "web", "10.0.0.2", 8080, Some("db"));
    let other_session = other.register(&web_2).await.unwrap();
    let mut other_ads = other.ads("default/web-2").await;
    other_session.send(ready()).await;
    world.until(|store| offered(store, "web") == Some(2)).await;

    let start = Instant::now();
    revoke(&world, &[&id]).await;
    assert_ended("session by token", &session_end(&mut session).await, &id);
    assert_ended("session by certificate", &session_end(&mut leaf_session).await, &id);
    assert_ended("ads by token", &ads_end(&mut ads).await, &id);
    assert_ended("ads by certificate", &ads_end(&mut leaf_ads).await, &id);
    println!("streams have ended after {} ms", start.elapsed().as_millis());
    world.until(|store| offered(store, "web") == Some(1)).await;
    println!("endpoints have left after {} ms", start.elapsed().as_millis());

    let before = world.registered();
    refused("the token", &agent, "default/web-1", &web_1(), &id).await;
    refused("the certificate", &by_leaf, "default/web-1", &web_1(), &id).await;
    let both = Agent { authorization: agent.authorization.clone(), ..by_leaf.clone() };
    refused("both", &both, "default/web-1", &web_1(), &id).await;
    refused("for another proxy", &agent, "default/web-9", &web_1().replace("web-1", "web-9"), &id).await;
    assert_eq!(world.registered(), before, "a refused registration changed the store");
    // Nothing is left of it but the certificate itself.
    world.store.delete(&ObjectKey::in_mesh(Kind::Dataplane, "default", "web-1"), None).await.unwrap();
    refused("the certificate of nobody", &by_leaf, "default/web-1", &web_1(), &id).await;

    // Others go on, on the streams that they have.
    put(&world.store, &dataplane("default", "db-2", "db", "10.7.0.7", 5432, None)).await;
    let db = world.index.connect(&ursa_model::ProxyId::new("default", "db-2"));
    db.unready(std::collections::BTreeSet::new());
    other_ads.until("a change", |ads| ads.mentions("10.7.0.7")).await;
    drop(other_session);
}

fn ready() -> ursa_proto::agent::from_agent::Message {
    ursa_proto::agent::from_agent::Message::Readiness(ursa_proto::agent::Readiness::default())
}

#[tokio::test]
async fn another_token_brings_the_proxy_back_and_the_old_certificate_stays_out() {
    let world = World::start().await;
    let (first, id) = token(&world);
    let agent = world.agent(&first).await;
    let mut session = agent.register(web_1()).await.unwrap();
    let old = signed(&agent, "default/web-1").await;
    revoke(&world, &[&id]).await;
    assert_ended("session", &session_end(&mut session).await, &id);

    let (second, next) = token(&world);
    // On a connection that shows the old certificate, as agents do.
    let channel = old.channel(&world).await.unwrap();
    let agent = Agent { channel, authorization: Some(format!("Bearer {second}")) };
    // At once, though a snapshot of before may still be in the way.
    let mut session = agent.register(web_1()).await.unwrap();
    assert_eq!(session.identity().await.token_id, next);
    agent.first_delta("default/web-1").await.unwrap();
    session.send(ready()).await;
    world.until(|store| offered(store, "web") == Some(1)).await;
    assert_eq!(token_id(&world, "web-1"), Some(next));
    refused("the old certificate", &old.agent(&world).await, "default/web-1", &web_1(), &id).await;
    let new = signed(&agent, "default/web-1").await.agent(&world).await;
    new.first_delta("default/web-1").await.unwrap();
}

#[tokio::test]
async fn a_lost_machine_s_token_goes_without_the_proxy_that_took_its_name() {
    let world = World::start().await;
    let (lost, id) = token(&world);
    let machine = world.agent(&lost).await;
    let mut lost_session = machine.register(web_1()).await.unwrap();
    let lost_leaf = signed(&machine, "default/web-1").await.agent(&world).await;
    let mut lost_ads = lost_leaf.ads("default/web-1").await;
    lost_ads.next().await.unwrap();
    let (second, next) = token(&world);
    let agent = world.agent(&second).await;
    let mut session = agent.register(web_1()).await.unwrap();
    session.send(ready()).await;
    let mut ads = agent.ads("default/web-1").await;
    ads.next().await.unwrap();
    assert_eq!(token_id(&world, "web-1"), Some(next));
    world.until(|store| offered(store, "web") == Some(1)).await;

    revoke(&world, &[&id]).await;
    assert_ended("its session", &session_end(&mut lost_session).await, &id);
    assert_ended("its stream", &ads_end(&mut lost_ads).await, &id);
    refused("the lost machine", &lost_leaf, "default/web-1", &web_1(), &id).await;
    assert_eq!(offered(&world.store, "web"), Some(1), "the other one serves");
    // It is told what is new.
    put(
        &world.store,
        &common::mesh("default", true)
            .replace("type: Builtin", "type: Builtin, dpCert: {rotation: {expiration: 1h}}"),
    )
    .await;
    let wait = async { while session.identity().await.lifetime_ms != 3_600_000 {} };
    timeout(PATIENCE, wait).await.expect("its stream is open");
}
