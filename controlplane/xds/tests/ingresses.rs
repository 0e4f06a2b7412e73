//! Zone ingresses in pods: each pod is a proxy of its own, known by its ServiceAccount, and they share one resource.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use common::agent::{Agent, Session};
use common::certificates::csr;
use common::{World, ZONE, assert_refused, zone_ingress};
use http::{Request, Response};
use kube::client::Body;
use rcgen::KeyPair;
use serde_json::{Value, json};
use tonic::{Code, Status};
use ursa_crds::{Kind, Object, ObjectKey, decode};
use ursa_envoy::ResourceType;
use ursa_model::ProxyId;
use ursa_proto::agent::{Draining, Hello, from_agent};
use ursa_xds::Reviewer;

/// An API server that takes a token `NAMESPACE/ACCOUNT/POD` for what it says.
fn reviewer() -> Reviewer {
    let judge = tower::service_fn(async |request: Request<Body>| {
        let body = request.into_body().collect_bytes().await?;
        let mut review: Value = serde_json::from_slice(&body)?;
        let token = review["spec"]["token"].as_str().unwrap_or_default().to_owned();
        let parts: Vec<&str> = token.split('/').collect();
        review["status"] = match parts[..] {
            [namespace, account, pod] => json!({
                "authenticated": true,
                "audiences": ["ursamesh.io"],
                "user": {
                    "username": format!("system:serviceaccount:{namespace}:{account}"),
                    "extra": {
                        "authentication.kubernetes.io/pod-name": [pod],
                        "authentication.kubernetes.io/pod-uid": [format!("uid-{pod}")],
                    },
                },
            }),
            _ => json!({"authenticated": false}),
        };
        Ok::<_, tower::BoxError>(Response::new(Body::from(serde_json::to_vec(&review)?)))
    });
    Reviewer::new(kube::Client::new(judge, "default"), "ursa-system")
}

fn key() -> ObjectKey {
    ObjectKey::in_mesh(Kind::ZoneIngress, "", &format!("{ZONE}.in"))
}

/// What discovery says of the ZoneIngress `in`.
fn discovered() -> Object {
    let yaml = zone_ingress(&format!("{ZONE}.in")).replace("10.0.0.2", "0.0.0.0");
    decode(yaml.replace("spec:\n", &format!("spec:\n  zone: {ZONE}\n")).as_bytes()).unwrap()
}

async fn world() -> World {
    let world = World::start_reviewed(&[], Some(reviewer())).await;
    world.store.discovered(vec![(key(), Some(discovered()))]);
    world
}

async fn session(agent: &Agent, node_id: &str) -> Result<Session, Status> {
    let hello = Hello {
        resource: Vec::new(),
        agent_version: "1".into(),
        envoy_version: "2".into(),
        node_id: node_id.into(),
    };
    agent.begin(from_agent::Message::Hello(hello)).await
}

#[tokio::test]
async fn replicas_of_an_ingress_are_proxies_of_their_own_with_the_same_configuration() {
    let world = world().await;
    let mut held = Vec::new();
    let mut open = Vec::new();
    for pod in ["in-1", "in-2"] {
        let agent = world.agent(&format!("ursa-system/in-proxy/{pod}")).await;
        let session = session(&agent, &format!("/in/{pod}")).await.unwrap();
        assert_eq!(session.welcome.node_id, format!("/{ZONE}.in/{pod}"));
        let mut ads = agent.ads(&session.welcome.node_id).await;
        ads.until("the listener", |ads| ads.has(ResourceType::Listener)).await;
        held.push(ads.held.clone());
        open.push((session, ads));
    }
    assert_eq!(held[0], held[1]);
    let connected = |pod: &str| {
        let proxy = ProxyId::replica(&format!("{ZONE}.in"), pod);
        world.index.insights().get(&proxy).is_some_and(|insight| insight.connected)
    };
    assert!(connected("in-1") && connected("in-2"));

    // One that drains takes nothing from the other, and the resource is not its own to remove.
    let (mut first, _ads) = open.remove(0);
    first.send(from_agent::Message::Draining(Draining {})).await;
    while first.next_or_end().await {}
    assert!(world.store.get(&key()).is_some() && connected("in-2"));
}

#[tokio::test]
async fn nobody_else_is_the_ingress() {
    let world = world().await;
    for (token, node_id, what) in [
        ("ursa-system/in-proxy/in-1", "/in/in-2", "another pod of it"),
        ("ursa-system/in-proxy/in-1", "/other/in-1", "another ingress"),
        ("ursa-system/default/in-1", "/in/in-1", "another account"),
        ("shop/in-proxy/in-1", "/in/in-1", "an account of the same name in another namespace"),
        ("ursa-system/in-proxy-2/in-1", "/in/in-1", "an account whose name goes on"),
    ] {
        // What is not known is waited for; who may not be it is refused then, too.
        world
            .store
            .discovered(vec![(ObjectKey { name: format!("{ZONE}.other"), ..key() }, Some(discovered()))]);
        let agent = world.agent(token).await;
        let refused = session(&agent, node_id).await;
        assert_refused(what, refused, Code::PermissionDenied, &["zone ingress"]);
        let stream = agent.first_delta(&format!("/{ZONE}.{}", node_id.trim_start_matches('/'))).await;
        assert_refused(what, stream, Code::PermissionDenied, &["zone ingress"]);
    }
    let token = world.agent(&world.token_of("", "in")).await;
    let stream = token.first_delta(&format!("/{ZONE}.in/in-1")).await;
    assert_refused(
        "a token of an ingress that is registered",
        stream,
        Code::PermissionDenied,
        &["zone ingress"],
    );
    let agent = world.agent("ursa-system/in-proxy/in-1").await;
    let stream = agent.first_delta(&format!("/{ZONE}.in")).await;
    assert_refused("the ingress as a whole", stream, Code::PermissionDenied, &["zone ingress"]);
}

#[tokio::test]
async fn a_pod_of_an_ingress_is_no_workload_and_registers_nothing() {
    let world = world().await;
    let agent = world.agent("ursa-system/in-proxy/in-1").await;
    let before = world.registered();
    let refused = agent.register(zone_ingress("in")).await;
    assert_refused("a resource of its own", refused, Code::PermissionDenied, &["discovered"]);
    let request = csr(&KeyPair::generate().unwrap(), &[], &[]);
    let refused = agent.sign(&format!("/{ZONE}.in/in-1"), &request).await;
    assert_refused("a certificate", refused, Code::PermissionDenied, &["in no mesh"]);
    let refused = agent.sign("default/in-1.ursa-system", &request).await;
    assert_refused("a workload's certificate", refused, Code::PermissionDenied, &["ursa-system/in-1"]);
    assert_eq!(world.registered(), before);
}
