//! Whom proxies let in without an identity of the mesh: agents say it, and it is shown with what is known of them.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use common::{World, ZONE, web_1};
use ursa_crds::{DataplaneInsightSpec, Kind, ObjectKey, PeerTransport, Spec, UnauthenticatedPeer};
use ursa_index::ProxyInsight;
use ursa_model::ProxyId;
use ursa_proto::agent::{self, FromAgent, Readiness, UnauthenticatedPeers, from_agent};
use ursa_store::Store;

fn told(address: &str, count: u64, second: u64) -> agent::UnauthenticatedPeer {
    let transport = agent::PeerTransport::Plaintext.into();
    agent::UnauthenticatedPeer {
        port: 8080,
        transport,
        address: address.into(),
        count,
        last_seen_ms: second * 1_000,
    }
}

fn shown(address: &str, dataplane: Option<&str>, count: u64, second: i64) -> UnauthenticatedPeer {
    UnauthenticatedPeer {
        port: 8080,
        transport: PeerTransport::Plaintext,
        address: address.parse().ok(),
        dataplane: dataplane.map(str::to_owned),
        count,
        last_seen: jiff::Timestamp::from_second(second).unwrap(),
    }
}

fn insight(store: &Store) -> Option<DataplaneInsightSpec> {
    let name = DataplaneInsightSpec::name(ZONE, "web-1");
    match &store.get(&ObjectKey::in_mesh(Kind::DataplaneInsight, "default", &name))?.spec {
        Spec::DataplaneInsight(spec) => Some(spec.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn who_was_let_in_is_shown_with_the_dataplane_at_its_address() {
    let world = World::start().await;
    let agent = world.agent(&world.token_of("default", "web-1")).await;
    let session = agent.register(web_1()).await.unwrap();
    assert!(session.welcome.takes_unauthenticated_peers);
    let shows = async |expected: &[UnauthenticatedPeer]| {
        world
            .until(|store| insight(store).is_some_and(|insight| insight.unauthenticated_peers == expected))
            .await;
    };
    let peers = vec![told("192.0.2.7", 1, 10), told("10.0.0.9", 2, 20), told("", 3, 5)];
    let say = |peers| from_agent::Message::UnauthenticatedPeers(UnauthenticatedPeers { peers });
    session.send(say(peers)).await;
    shows(&[
        shown("10.0.0.9", Some("default/db-1"), 2, 20),
        shown("192.0.2.7", None, 1, 10),
        shown("", None, 3, 5),
    ])
    .await;
    // Each time the agent says all.
    session.send(say(vec![told("192.0.2.7", 4, 30)])).await;
    shows(&[shown("192.0.2.7", None, 4, 30)]).await;
    // An agent that is gone was right.
    drop(session);
    world.until(|store| insight(store).is_some_and(|insight| !insight.connected)).await;
    shows(&[shown("192.0.2.7", None, 4, 30)]).await;
}

#[tokio::test]
async fn what_a_newer_agent_says_is_left_unread() {
    let world = World::start().await;
    let agent = world.agent(&world.token_of("default", "web-1")).await;
    let session = agent.register(web_1()).await.unwrap();
    // What this version does not know reads like this.
    session.sender.send(FromAgent { message: None }).await.unwrap();
    session.send(from_agent::Message::Readiness(Readiness { inbounds: Vec::new() })).await;
    let is_ready = |insight: ProxyInsight| insight.connected && insight.unready.is_some();
    world
        .until(|_| world.index.insights().get(&ProxyId::new("default", "web-1")).is_some_and(is_ready))
        .await;
}
