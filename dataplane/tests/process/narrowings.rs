//! A change that refuses callers, and that Envoy does not take, closes the inbound; any other leaves it as it was.

use std::net::SocketAddr;

use tokio::io::AsyncReadExt;
use ursa_envoy::ResourceType;
use ursa_identity::ZoneCa;
use ursa_model::{IdentityPattern, InboundTls, Protocol, TrustDomain};

use crate::agent::{Agent, is_gone};
use crate::caller::{Caller, HOUR};
use crate::mesh::{Model, answers, echo, free_port, http, talk};
use crate::plane::{Plane, Resources, authority};
use crate::wait::eventually;

const CLOSED: &str = "lets nobody in until a version is accepted";

struct Inbound {
    protocol: Protocol,
    port: u16,
    application: SocketAddr,
}

impl Inbound {
    /// Of the zone's callers, these services are let in; `other` are further trust domains with their roots.
    fn resources(&self, authority: &ZoneCa, services: &[&str], other: &[(&str, &str)]) -> Resources {
        let domain = TrustDomain::new("east", "default");
        let allowed = services.iter().map(|name| IdentityPattern::Service(domain.clone(), (*name).into()));
        let own = (domain.to_string(), authority.root_pem().to_owned());
        let other = other
            .iter()
            .map(|(zone, roots)| (TrustDomain::new(zone, "default").to_string(), (*roots).to_owned()));
        let tls =
            InboundTls { trust: other.chain([own]).collect(), allowed: allowed.collect(), permissive: false };
        Model::new().inbound_of(self.protocol, self.port, self.application, Some(tls)).resources()
    }

    fn key(&self, resource_type: ResourceType) -> (ResourceType, String) {
        let kind = if resource_type == ResourceType::Secret { "callers" } else { "inbound" };
        (resource_type, format!("{kind}:127.0.0.1:{}", self.port))
    }

    /// The same, but no Envoy takes the resource of this type.
    fn spoilt(&self, mut resources: Resources, resource_type: ResourceType) -> Resources {
        let (_, body) = resources.get_mut(&self.key(resource_type)).unwrap();
        body.value = vec![0xff; 16];
        resources
    }
}

async fn refusal(plane: &Plane, resource_type: ResourceType) -> String {
    plane
        .sees("the refusal", |state| {
            state.nacks.iter().rev().find(|nack| nack.0 == resource_type).map(|nack| nack.1.clone())
        })
        .await
}

/// A connection ends when its other end does, whether it says so or not.
async fn ends(mut stream: impl AsyncReadExt + Unpin) {
    let end = async { while stream.read_u8().await.is_ok() {} };
    tokio::time::timeout(crate::wait::SOON, end).await.expect("the connection ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_narrowing_of_tcp_callers_closes_the_inbound() {
    let inbound = Inbound { protocol: Protocol::Tcp, port: free_port(), application: echo("app").await };
    let port = inbound.port;
    let signer = authority();
    let caller = Caller::new(&signer);
    let good = inbound.resources(&signer, &["caller"], &[]);
    let wider = inbound.resources(&signer, &["caller", "late"], &[("west", "no certificate")]);
    let narrower = inbound.resources(&signer, &["other"], &[("west", "no certificate either")]);
    let mut plane = Plane::start(good.clone()).await;
    plane.set(|state| state.authority = Some((signer, HOUR)));
    let mut agent = Agent::start(&plane);
    let open = eventually("the caller is let in", async || caller.greeted(port).await).await;

    // One that would only admit more changes nothing.
    plane.set(|state| state.resources = wider);
    let message = refusal(&plane, ResourceType::Secret).await;
    assert!(!message.contains(CLOSED), "{message}");
    caller.meets(port).await.expect("the caller is still let in");

    plane.set(|state| {
        state.nacks.clear();
        state.resources = narrower;
    });
    let message = refusal(&plane, ResourceType::Secret).await;
    assert!(
        message.starts_with(&inbound.key(ResourceType::Secret).1) && message.contains(CLOSED),
        "{message}"
    );
    eventually("nobody is let in", async || caller.meets(port).await.is_none().then_some(())).await;
    ends(open).await;

    // The next agent keeps it so while the control plane is away.
    plane.stop();
    let old = agent.envoy().await;
    agent.kill();
    is_gone(old).await;
    agent.run();
    // A client's side of the handshake ends before the server's verdict.
    eventually("the inbound listens", async || caller.connect(port).await).await;
    assert!(caller.meets(port).await.is_none());

    // A version that Envoy takes ends it, though it is the one that was there before.
    plane.set(|state| state.resources = good);
    plane.resume().await;
    eventually("the caller is let in again", async || caller.meets(port).await).await;
    plane.sees_all_acknowledged(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_root_for_two_inbounds_does_not_become_the_last_good_one() {
    let signer = authority();
    let caller = Caller::new(&signer);
    let mut inbounds = Vec::new();
    for _ in 0..2 {
        inbounds.push(Inbound { protocol: Protocol::Tcp, port: free_port(), application: echo("app").await });
    }
    let both = |services: &[&str], other: &[(&str, &str)]| -> Resources {
        inbounds.iter().flat_map(|inbound| inbound.resources(&signer, services, other)).collect()
    };
    let good = both(&["caller"], &[]);
    let bad_root = both(&["caller"], &[("west", "no certificate")]);
    let narrower = both(&["other"], &[("west", "no certificate")]);
    let plane = Plane::start(good.clone()).await;
    plane.set(|state| state.authority = Some((signer, HOUR)));
    let _agent = Agent::start(&plane);
    let mut open = Vec::new();
    for inbound in &inbounds {
        open.push(eventually("the caller is let in", async || caller.greeted(inbound.port).await).await);
    }

    // Both secrets come in one response, which says nothing of whose fault it is.
    plane.set(|state| state.resources = bad_root);
    let message = refusal(&plane, ResourceType::Secret).await;
    for inbound in &inbounds {
        assert!(message.contains(&inbound.key(ResourceType::Secret).1), "{message}");
        caller.meets(inbound.port).await.expect("the caller is still let in");
    }
    assert!(!message.contains(CLOSED), "{message}");

    plane.set(|state| {
        state.nacks.clear();
        state.resources = narrower;
    });
    let message = refusal(&plane, ResourceType::Secret).await;
    assert!(message.contains(CLOSED), "{message}");
    for (inbound, open) in inbounds.iter().zip(open) {
        eventually("nobody is let in", async || caller.meets(inbound.port).await.is_none().then_some(()))
            .await;
        ends(open).await;
    }
    plane.set(|state| state.resources = good);
    for inbound in &inbounds {
        eventually("the caller is let in again", async || caller.meets(inbound.port).await).await;
    }
    plane.sees_all_acknowledged(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_narrowing_of_http_callers_closes_the_inbound() {
    let inbound = Inbound { protocol: Protocol::Http, port: free_port(), application: http().await };
    let port = inbound.port;
    let signer = authority();
    let caller = Caller::new(&signer);
    let good = inbound.resources(&signer, &["caller"], &[]);
    let narrower = inbound.spoilt(inbound.resources(&signer, &["other"], &[]), ResourceType::Route);
    let plane = Plane::start(good.clone()).await;
    plane.set(|state| state.authority = Some((signer, HOUR)));
    let _agent = Agent::start(&plane);
    let status = async |expected| (caller.status(port).await == Some(expected)).then_some(());
    eventually("the caller is served", async || status(200).await).await;
    plane.set(|state| state.resources = narrower);
    let message = refusal(&plane, ResourceType::Route).await;
    assert!(message.contains(CLOSED), "{message}");
    eventually("nobody is served", async || status(403).await).await;
    plane.set(|state| state.resources = good);
    eventually("the caller is served again", async || status(200).await).await;
    plane.sees_all_acknowledged(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbound_that_does_not_become_strict_is_closed() {
    let inbound = Inbound { protocol: Protocol::Tcp, port: free_port(), application: echo("app").await };
    let port = inbound.port;
    let signer = authority();
    let open = Model::new().inbound(port, inbound.application, None).resources();
    let strict = inbound.resources(&signer, &["caller"], &[]);
    let plane = Plane::start(open.clone()).await;
    plane.set(|state| state.authority = Some((signer, HOUR)));
    let agent = Agent::start(&plane);
    answers(port, "app").await;
    plane.set(|state| state.resources = inbound.spoilt(strict.clone(), ResourceType::Listener));
    let message = refusal(&plane, ResourceType::Listener).await;
    assert!(message.contains(CLOSED), "{message}");
    eventually("nobody is let in", async || talk(port).await.is_none().then_some(())).await;
    let listeners = agent.admin("/listeners").await.unwrap();
    assert!(listeners.contains(&format!(":{port}")), "{listeners}");
    plane.set(|state| state.resources = open);
    answers(port, "app").await;
}
