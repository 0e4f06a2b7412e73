//! Certificates: what is signed, for whom, and what they are good for when a client shows them.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::sync::Arc;

use common::agent::Agent;
use common::certificates::{Leaf, csr, names};
use common::{HOUR, PATIENCE, World, ZONE, assert_refused, claims, dataplane, put, web_1, zone_ingress};
use jiff::{SignedDuration, Timestamp};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
use tonic::Code;
use ursa_identity::ZoneCa;
use ursa_model::{ProxyId, SpiffeId, TrustDomain};

fn id(zone: &str, mesh: &str, service: &str, proxy: &str) -> SpiffeId {
    SpiffeId::universal(TrustDomain::new(zone, mesh), service, proxy)
}

fn web_id() -> SpiffeId {
    id(ZONE, "default", "web", "web-1")
}

/// What this zone signs with in a mesh.
async fn authority(world: &World, mesh: &str) -> Arc<ZoneCa> {
    world.authority.current(mesh, "ca-1").await.expect("it is made with the mesh")
}

/// A world in which web-1 is registered, and its agent, which has a token.
async fn with_web() -> (World, Agent) {
    let world = World::start_with(&[web_1()]).await;
    let agent = world.agent(&world.token_of("default", "web-1")).await;
    (world, agent)
}

#[tokio::test]
async fn a_certificate_holds_the_announced_identity_and_no_other_name() {
    let world = World::start().await;
    let agent = world.agent(&world.token_of("default", "web-1")).await;
    let mut session = agent.register(web_1()).await.unwrap();
    let announced = session.identity().await;
    assert_eq!(announced.spiffe_id, web_id().to_string());
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let foreign = [id(ZONE, "default", "db", "db-1"), id("west", "default", "web", "web-1"), web_id()];
    let foreign = foreign.map(|id| id.to_string());
    let request = csr(&key, &foreign.each_ref().map(String::as_str), &["db.default", "localhost"]);
    for node_id in ["default/web-1", ""] {
        let signed = agent.sign(node_id, &request).await.unwrap();
        assert_eq!(names(&signed.chain), (vec![announced.spiffe_id.clone()], false), "node id {node_id:?}");
        assert_eq!(signed.signer, announced.signer);
    }
}

#[tokio::test]
async fn an_authority_cannot_be_asked_for() {
    let (_world, agent) = with_web().await;
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let request = params.serialize_request(&key).unwrap().der().to_vec();
    match agent.sign("default/web-1", &request).await {
        Ok(signed) => assert_eq!(names(&signed.chain), (vec![web_id().to_string()], false)),
        Err(status) => assert_eq!(status.code(), Code::InvalidArgument, "{status:?}"),
    }
}

#[tokio::test]
async fn what_is_no_request_for_a_p256_key_is_refused() {
    let (world, agent) = with_web().await;
    let before = world.everything();
    let good = csr(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(), &[], &[]);
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let of = |algorithm| csr(&KeyPair::generate_for(algorithm).unwrap(), &[], &[]);
    for (what, request) in [
        ("nothing", Vec::new()),
        ("garbage", b"-----BEGIN CERTIFICATE REQUEST-----".to_vec()),
        ("half a request", good[..good.len() / 2].to_vec()),
        ("a signature that is not the key's", forged),
        ("RSA", of(&PKCS_RSA_SHA256)),
        ("P-384", of(&PKCS_ECDSA_P384_SHA384)),
        ("Ed25519", of(&PKCS_ED25519)),
    ] {
        let signed = agent.sign("default/web-1", &request).await;
        assert_refused(what, signed, Code::InvalidArgument, &["csr: "]);
    }
    assert!(world.everything() == before, "a refused request changed the store");
    agent.sign("default/web-1", &good).await.unwrap();
}

#[tokio::test]
async fn nothing_is_signed_while_mutual_tls_is_off() {
    let world = World::start_with(&[dataplane("plain", "web-1", "web", "10.0.0.1", 8080, None)]).await;
    let before = world.everything();
    let agent = world.agent(&world.token_of("plain", "web-1")).await;
    let request = csr(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(), &[], &[]);
    let words = ["mutual TLS is off", "plain"];
    let signed = agent.sign("plain/web-1", &request).await;
    assert_refused("mutual TLS is off", signed, Code::FailedPrecondition, &words);
    assert!(world.everything() == before);
    put(&world.store, &common::mesh("plain", true)).await;
    let signed = agent.sign("plain/web-1", &request).await.unwrap();
    assert_eq!(names(&signed.chain).0, [id(ZONE, "plain", "web", "web-1").to_string()]);
}

#[tokio::test]
async fn a_token_without_a_name_has_to_say_for_which_dataplane() {
    let (world, _) = with_web().await;
    let agent = world.agent(&world.token(&claims("default", None, &["web"]))).await;
    let request = csr(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(), &[], &[]);
    assert_refused("no node id", agent.sign("", &request).await, Code::InvalidArgument, &["node_id"]);
    let signed = agent.sign("default/web-1", &request).await.unwrap();
    assert_eq!(names(&signed.chain).0, [web_id().to_string()]);
}

#[tokio::test]
async fn a_certificate_stands_for_its_own_proxy_and_no_other() {
    let (world, _) = with_web().await;
    let ca = authority(&world, "default").await;
    let agent = Leaf::signed(&ca, &web_id(), HOUR, Timestamp::now()).agent(&world).await;
    let request = csr(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(), &[], &[]);
    agent.first_delta("default/web-1").await.unwrap();
    for node_id in ["default/web-1", ""] {
        let renewed = agent.sign(node_id, &request).await.unwrap();
        assert_eq!(names(&renewed.chain).0, [web_id().to_string()]);
    }
    let _session = agent.register(web_1()).await.unwrap();

    let registered = world.registered();
    for node_id in ["default/db-1", "default/db-9", "other/web-1", "/east.web-1"] {
        assert_refused(node_id, agent.first_delta(node_id).await, Code::PermissionDenied, &["web-1"]);
        assert_refused(node_id, agent.sign(node_id, &request).await, Code::PermissionDenied, &["web-1"]);
    }
    let second = "{port: 9000, servicePort: 9001, tags: {ursamesh.io/service: db}}";
    for (what, resource) in [
        ("another name", dataplane("default", "web-2", "web", "10.0.0.1", 8080, None)),
        ("another mesh", dataplane("other", "web-1", "web", "10.0.0.1", 8080, None)),
        ("another service", dataplane("default", "web-1", "db", "10.0.0.1", 8080, None)),
        ("a service more", web_1().replace("inbound: [{", &format!("inbound: [{second}, {{"))),
        ("a service more, last", web_1().replace("web}}]", &format!("web}}}}, {second}]"))),
        ("an ingress", zone_ingress("web-1")),
    ] {
        let words = ["spiffe://", "web-1"];
        assert_refused(what, agent.register(resource).await, Code::PermissionDenied, &words);
    }
    assert_eq!(world.registered(), registered, "a refused registration changed the store");
}

/// Every call with this certificate, and no token, must be refused like this.
async fn shown_in_vain(world: &World, what: &str, leaf: &Leaf, words: &[&str]) {
    let before = world.everything();
    let agent = leaf.agent(world).await;
    let request = csr(&leaf.key, &[], &[]);
    assert_refused(what, agent.register(web_1()).await, Code::Unauthenticated, words);
    assert_refused(what, agent.first_delta("default/web-1").await, Code::Unauthenticated, words);
    assert_refused(what, agent.sign("default/web-1", &request).await, Code::Unauthenticated, words);
    assert!(world.everything() == before, "{what}: it changed the store");
}

#[tokio::test]
async fn a_certificate_of_a_foreign_authority_is_refused() {
    let (world, _) = with_web().await;
    let now = Timestamp::now();
    let signed_by = |zone: &str, mesh: &str| {
        let ca = ZoneCa::generate(&TrustDomain::new(zone, mesh), now).unwrap();
        Leaf::signed(&ca, &id(zone, mesh, "web", "web-1"), HOUR, now)
    };
    for (what, leaf) in [
        ("another key in the same trust domain", signed_by(ZONE, "default")),
        ("another zone", signed_by("west", "default")),
        ("another mesh that is not there", signed_by(ZONE, "third")),
    ] {
        shown_in_vain(&world, what, &leaf, &["client certificate", "not signed by this zone"]).await;
    }
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI(web_id().to_string().try_into().unwrap())];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let own = Leaf { chain: params.self_signed(&key).unwrap().pem(), key };
    shown_in_vain(&world, "signed by itself", &own, &["not signed by this zone"]).await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let (world, agent) = with_web().await;
    let ca = authority(&world, "default").await;
    let past = Timestamp::now() - SignedDuration::from_hours(2);
    let expired = Leaf::signed(&ca, &web_id(), HOUR, past);
    shown_in_vain(&world, "expired", &expired, &["client certificate", "expired"]).await;
    // With a token, which counts, it is of no concern.
    let both = Agent { channel: expired.channel(&world).await.unwrap(), ..agent };
    both.first_delta("default/web-1").await.unwrap();
}

#[tokio::test]
async fn an_agent_whose_token_has_expired_goes_on_with_its_certificate() {
    let (world, _) = with_web().await;
    let ca = authority(&world, "default").await;
    let past = Timestamp::now() - SignedDuration::from_hours(2);
    let web = claims("default", Some("web-1"), &[]);
    let old = world.tokens.issue_dataplane(&web, HOUR, past).unwrap().token;
    let valid = Leaf::signed(&ca, &web_id(), HOUR, Timestamp::now());
    let agent = Agent { authorization: Some(format!("Bearer {old}")), ..valid.agent(&world).await };
    agent.first_delta("default/web-1").await.unwrap();
    agent.register(web_1()).await.unwrap();
    let expired = Leaf::signed(&ca, &web_id(), HOUR, past);
    let agent = Agent { authorization: Some(format!("Bearer {old}")), ..expired.agent(&world).await };
    let refusal = agent.first_delta("default/web-1").await;
    assert_refused("both have expired", refusal, Code::Unauthenticated, &["expired"]);
}

#[tokio::test]
async fn another_mesh_s_certificate_says_nothing_of_this_one() {
    let (world, _) = with_web().await;
    put(&world.store, &dataplane("other", "web-1", "web", "10.0.1.1", 8080, None)).await;
    let ca = authority(&world, "other").await;
    let agent =
        Leaf::signed(&ca, &id(ZONE, "other", "web", "web-1"), HOUR, Timestamp::now()).agent(&world).await;
    agent.first_delta("other/web-1").await.unwrap();
    assert_refused("ads", agent.first_delta("default/web-1").await, Code::PermissionDenied, &["other"]);
    assert_refused("register", agent.register(web_1()).await, Code::PermissionDenied, &["other"]);
}

#[tokio::test]
async fn a_certificate_without_its_key_opens_nothing() {
    let (world, _) = with_web().await;
    let ca = authority(&world, "default").await;
    let own = Leaf::signed(&ca, &web_id(), HOUR, Timestamp::now());
    own.agent(&world).await.first_delta("default/web-1").await.unwrap();
    let stolen = Leaf { key: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(), ..own };
    // The connection may break when it opens or at its first use.
    let Ok(channel) = stolen.channel(&world).await else { return };
    let agent = Agent { channel, authorization: None };
    let code = agent.first_delta("default/web-1").await.unwrap_err().code();
    assert!(matches!(code, Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal), "{code:?}");
}

#[tokio::test]
async fn a_signed_certificate_lives_as_long_as_the_mesh_says_and_is_observed() {
    let (world, _) = with_web().await;
    let short = common::mesh("default", true)
        .replace("type: Builtin", "type: Builtin, dpCert: {rotation: {expiration: 5s}}");
    put(&world.store, &short).await;
    let agent = world.agent(&world.token_of("default", "web-1")).await;
    let mut session = agent.register(web_1()).await.unwrap();
    let wait = async { while session.identity().await.lifetime_ms != 5_000 {} };
    tokio::time::timeout(PATIENCE, wait).await.expect("the lifetime is announced");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let chain = agent.sign("default/web-1", &csr(&key, &[], &[])).await.unwrap().chain;
    let insight = world.index.insights().get(&ProxyId::new("default", "web-1")).unwrap();
    let left = insight.certificate.unwrap().expires.duration_since(Timestamp::now());
    assert!(left <= SignedDuration::from_secs(5), "{left}");
    // It opens the door until it has expired, and not after.
    let leaf = Leaf { chain, key };
    let agent = leaf.agent(&world).await;
    agent.first_delta("default/web-1").await.unwrap();
    let wait = async {
        loop {
            if let Err(status) = agent.first_delta("default/web-1").await {
                return status;
            }
        }
    };
    let status = tokio::time::timeout(PATIENCE, wait).await.expect("it expires");
    assert_refused("late", Err::<(), _>(status), Code::Unauthenticated, &["expired"]);
}
