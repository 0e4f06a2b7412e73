//! An agent that hangs is let go, although its kernel answers; one that merely has nothing to say stays.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::time::Duration;

use common::agent::Agent;
use common::{PATIENCE, World, dataplane, web_1};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use ursa_model::ProxyId;
use ursa_proto::keepalive::{PING_EVERY, PING_TIMEOUT};

/// An address between an agent and a control plane at this one: carries bytes until told to keep them. Then only the
/// kernel answers.
async fn between(control_plane: String) -> (String, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let (hang, hangs) = oneshot::channel();
    tokio::spawn(async move {
        let (mut agent, _) = listener.accept().await.unwrap();
        let mut plane = TcpStream::connect(control_plane).await.unwrap();
        tokio::select! {
            _ = copy_bidirectional(&mut agent, &mut plane) => {}
            _ = hangs => std::future::pending().await,
        }
    });
    (address, hang)
}

#[tokio::test]
async fn an_agent_that_hangs_is_let_go_and_one_that_has_nothing_to_say_stays() {
    let world = World::start().await;
    let idle = world.agent(&world.token_of("default", "web-2")).await;
    let _idle = idle.register(dataplane("default", "web-2", "web", "10.0.0.2", 8080, None)).await.unwrap();
    let (address, hang) = between(world.address.replace("https://", "")).await;
    let channel = ursa_proto::connect(&address, &world.ca_file).await.unwrap();
    let authorization = Some(format!("Bearer {}", world.token_of("default", "web-1")));
    let hanging = Agent { channel, authorization };
    let _session = hanging.register(web_1()).await.unwrap();
    let is_connected = |name: &str| {
        world.index.insights().get(&ProxyId::new("default", name)).is_some_and(|insight| insight.connected)
    };
    assert!(is_connected("web-1") && is_connected("web-2"));

    let start = Instant::now();
    hang.send(()).unwrap();
    while is_connected("web-1") {
        assert!(start.elapsed() < PING_EVERY + PING_TIMEOUT + PATIENCE, "it still counts as connected");
        sleep(Duration::from_millis(50)).await;
    }
    // It has been silent for longer, but for its pings.
    assert!(is_connected("web-2"));
}
