//! Intermediates below a root that a user provides: for the zone of the token, and for nobody else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

mod common;

use std::sync::Arc;

use common::objects::object;
use common::raw::RawZone;
use common::{PATIENCE, World, put};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::json;
use tokio::time::timeout;
use ursa_crds::{ObjectKey, Spec};
use ursa_identity::IntermediateRequest;
use ursa_index::{Authority, AuthorityError, provided};
use ursa_model::TrustDomain;
use ursa_proto::sync::{IntermediateSigned, SignIntermediate, from_global, from_zone};
use ursa_store::Store;

/// A global whose mesh `default` has a provided backend `corp`.
async fn world() -> World {
    let world = World::start().await;
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap().pem();
    let secret = |name: &str, value: &str| {
        let value = json!(value);
        object(&format!("kind: Secret\nmetadata: {{name: {name}}}\nspec: {{value: {value}}}\n"))
    };
    put(&world.store, secret("cert", &root)).await;
    put(&world.store, secret("key", &key.serialize_pem())).await;
    let conf = "{cert: {secret: cert}, key: {secret: key}}";
    let backend = format!("{{name: corp, type: Provided, conf: {conf}}}");
    let mtls = format!("{{enabledBackend: corp, backends: [{backend}]}}");
    let mesh = format!("kind: Mesh\nmetadata: {{name: default}}\nspec: {{mtls: {mtls}}}\n");
    put(&world.store, object(&mesh)).await;
    world
}

#[tokio::test]
async fn replicas_share_the_intermediate_that_one_of_them_has_signed() {
    let (world, store) = (world().await, Store::memory());
    let Spec::Mesh(mesh) = world.store.get(&ObjectKey::mesh("default")).unwrap().spec.clone() else {
        panic!("it is a mesh");
    };
    let backend = &mesh.mtls.unwrap().backends[0];
    let (leader, mut asked) = Authority::of_zone(store.clone(), "east");
    let (other, _never_answered) = Authority::of_zone(store.clone(), "east");
    let (leader, other) = (Arc::new(leader), Arc::new(other));
    for replica in [&leader, &other] {
        let pending = replica.ensure("default", backend).await;
        assert!(matches!(pending, Err(AuthorityError::Pending { .. })), "{pending:?}");
    }
    let request = asked.recv().await.unwrap();
    let chain = provided::sign_intermediate(&world.store, "east", "default", "corp", &request.csr);
    request.reply.send(chain).unwrap();
    let known = async {
        loop {
            // Not looked up by anybody: it takes it by itself.
            let (one, two) = (leader.issuers().await, other.issuers().await);
            if !one.is_empty() && !two.is_empty() {
                return (one, two);
            }
            tokio::task::yield_now().await;
        }
    };
    let (one, two) = timeout(PATIENCE, known).await.expect("both know it");
    assert_eq!(one, two);
}

async fn ask(zone: &mut RawZone, id: u64, backend: &str, csr: &[u8]) -> IntermediateSigned {
    let (mesh, backend, csr) = ("default".into(), backend.into(), csr.to_vec());
    zone.send(from_zone::Message::SignIntermediate(SignIntermediate { id, mesh, backend, csr })).await;
    match zone.next().await.unwrap() {
        from_global::Message::IntermediateSigned(answer) => {
            assert_eq!(answer.id, id);
            answer
        }
        other => panic!("not an answer: {other:?}"),
    }
}

#[tokio::test]
async fn an_intermediate_is_signed_for_the_zone_of_the_token_whatever_the_request_says() {
    let world = world().await;
    let mut zone = RawZone::connect(&world, "east").await;
    let (east, west) = (TrustDomain::new("east", "default"), TrustDomain::new("west", "default"));
    let request = IntermediateRequest::new(&east, None).unwrap();
    let answer = ask(&mut zone, 1, "corp", request.csr()).await;
    assert_eq!(request.finish(&answer.chain).unwrap().domain(), &east);
    let other = IntermediateRequest::new(&west, None).unwrap();
    let answer = ask(&mut zone, 2, "corp", other.csr()).await;
    assert!(other.finish(&answer.chain).is_err(), "an intermediate of west for zone east");
    assert!(!answer.chain.contains("PRIVATE KEY"));
}

#[tokio::test]
async fn what_cannot_be_signed_is_answered_with_the_reason_and_the_stream_goes_on() {
    let world = world().await;
    let mut zone = RawZone::connect(&world, "east").await;
    let request = IntermediateRequest::new(&TrustDomain::new("east", "default"), None).unwrap();
    for (backend, csr, reason) in [
        ("other", request.csr(), "no provided backend other"),
        ("corp", b"no request".as_slice(), "not a valid certificate signing request"),
    ] {
        let answer = ask(&mut zone, 7, backend, csr).await;
        assert!(answer.chain.is_empty() && answer.reason.contains(reason), "{answer:?}");
    }
    zone.ping().await;
}
