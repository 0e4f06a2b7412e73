//! What Envoy refuses is told to the control plane, and nothing else suffers.

use std::net::{IpAddr, Ipv4Addr};

use ursa_envoy::ResourceType;
use ursa_envoy::wire::{Any, type_url};
use ursa_model::Balancer;

use crate::agent::Agent;
use crate::mesh::{Model, answers, echo, free_port};
use crate::plane::{Plane, Resources};

/// An address that no host has (RFC 5737).
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A cluster that cannot even be decoded.
fn garbage(resources: &mut Resources) {
    let body = Any { type_url: type_url::CLUSTER.into(), value: vec![0xff; 16] };
    resources.insert((ResourceType::Cluster, "garbage".into()), ("1".into(), body));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_resource_is_refused_and_the_others_go_through() {
    let one = echo("one").await;
    let (port, bad, other) = (free_port(), free_port(), free_port());
    let mut resources = Model::new()
        .outbound(port, "echo", one)
        .outbound_at(NOWHERE, bad, "bad", one, Balancer::RoundRobin)
        .outbound(other, "other", one)
        .resources();
    garbage(&mut resources);
    let plane = Plane::start(resources).await;
    let agent = Agent::start(&plane);
    answers(port, "one").await;
    answers(other, "one").await;
    let name = format!("outbound:192.0.2.1:{bad}");
    let listener = plane
        .sees("the listener's refusal", |state| {
            state.nacks.iter().find(|nack| nack.0 == ResourceType::Listener).map(|nack| nack.1.clone())
        })
        .await;
    assert!(listener.starts_with(&format!("{name}: ")) && listener.contains("cannot bind"), "{listener}");
    let cluster = plane
        .sees("the cluster's refusal", |state| {
            state.nacks.iter().find(|nack| nack.0 == ResourceType::Cluster).map(|nack| nack.1.clone())
        })
        .await;
    assert!(cluster.starts_with("garbage: ") && !cluster.contains("default/echo: "), "{cluster}");
    assert!(agent.log().contains("Envoy refused a resource"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_change_leaves_the_last_good_version_in_place() {
    let (one, two) = (echo("one").await, echo("two").await);
    let (port, other) = (free_port(), free_port());
    let good = Model::new().outbound(port, "echo", one).resources();
    let mut plane = Plane::start(good.clone()).await;
    let mut agent = Agent::start(&plane);
    answers(port, "one").await;
    plane.sees_all_acknowledged(&[]).await;
    // The listener becomes one that cannot be bound, its cluster goes, and another service comes.
    let name = format!("outbound:127.0.0.1:{port}");
    let key = (ResourceType::Listener, name.clone());
    let elsewhere = Model::new().outbound_at(NOWHERE, port, "echo", one, Balancer::RoundRobin).resources();
    let (version, body) = elsewhere[&(ResourceType::Listener, format!("outbound:192.0.2.1:{port}"))].clone();
    let mut next = Model::new().outbound(other, "other", two).resources();
    next.insert(key, (version, body));
    plane.set(|state| state.resources = next);
    answers(other, "two").await;
    plane
        .sees("the refusal", |state| state.nacks.iter().any(|nack| nack.1.starts_with(&name)).then_some(()))
        .await;
    answers(port, "one").await;
    // The next agent starts with the last-good version, too.
    plane.stop();
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(agent.exit().await.success());
    agent.run();
    answers(port, "one").await;
    answers(other, "two").await;
    // A good version ends it.
    plane.set(|state| state.resources = Model::new().outbound(port, "echo", two).resources());
    plane.resume().await;
    answers(port, "two").await;
    plane.sees_all_acknowledged(&[]).await;
}
