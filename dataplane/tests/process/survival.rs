//! What goes on when something is away or dies.

use nix::sys::signal::{Signal, kill};

use crate::agent::{Agent, is_gone};
use crate::mesh::{Model, answers, echo, free_port};
use crate::plane::Plane;
use crate::wait::{eventually, within};

/// Whoever holds the connection answers the kernel: only pings tell, after 40 s.
const HANGS: std::time::Duration = std::time::Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn traffic_goes_on_without_the_control_plane_and_differences_come_after() {
    let (one, two) = (echo("one").await, echo("two").await);
    let (port, other) = (free_port(), free_port());
    let mut plane = Plane::start(Model::new().outbound(port, "echo", one).resources()).await;
    let _agent = Agent::start(&plane);
    answers(port, "one").await;
    plane.sees_all_acknowledged(&[]).await;
    plane.stop();
    answers(port, "one").await;
    let now = Model::new().outbound(port, "echo", one).outbound(other, "other", two).resources();
    plane.set(|state| state.resources = now);
    plane.resume().await;
    answers(other, "two").await;
    answers(port, "one").await;
    plane.see(|state| {
        // The second stream began with what the first had brought.
        let held: Vec<_> = state.held.values().flat_map(|held| held.keys().cloned()).collect();
        assert_eq!(held, ["default/echo", "default/echo", &format!("outbound:127.0.0.1:{port}")]);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_dies_comes_back_with_the_last_good_configuration() {
    let one = echo("one").await;
    let port = free_port();
    let mut plane = Plane::start(Model::new().outbound(port, "echo", one).resources()).await;
    let agent = Agent::start(&plane);
    answers(port, "one").await;
    plane.sees_all_acknowledged(&[]).await;
    plane.stop();
    let before = agent.envoy().await;
    kill(before, Signal::SIGKILL).unwrap();
    is_gone(before).await;
    answers(port, "one").await;
    assert_ne!(agent.envoy().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_dies_with_its_agent_and_comes_back_without_the_control_plane() {
    let one = echo("one").await;
    let port = free_port();
    let mut plane = Plane::start(Model::new().outbound(port, "echo", one).resources()).await;
    let mut agent = Agent::start(&plane);
    answers(port, "one").await;
    plane.sees_all_acknowledged(&[]).await;
    eventually("the last-good set is on disk", async || {
        agent.path("data/last-good.pb").is_file().then_some(())
    })
    .await;
    let kept = eventually("it is complete", async || {
        let bytes = std::fs::read(agent.path("data/last-good.pb")).ok()?;
        let cache = ursa_dp::xds::cache::Cache::decode(&bytes, crate::plane::NODE_ID).unwrap();
        cache.iter(ursa_envoy::ResourceType::Listener).next().is_some().then_some(bytes.len())
    })
    .await;
    assert!(kept > 0);
    let envoy = agent.envoy().await;
    plane.stop();
    agent.kill();
    is_gone(envoy).await;
    agent.run();
    answers(port, "one").await;
    // And it goes on from there.
    let two = echo("two").await;
    plane.set(|state| state.resources = Model::new().outbound(port, "echo", two).resources());
    plane.resume().await;
    answers(port, "two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_is_silent_is_noticed() {
    let one = echo("one").await;
    let port = free_port();
    let plane = Plane::start(Model::new().outbound(port, "echo", one).resources()).await;
    // Between the agent and the control plane: carries bytes until told to swallow them.
    let middle = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = middle.local_addr().unwrap();
    let swallow = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let target = plane.address;
    let flag = swallow.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = middle.accept().await {
            let server = tokio::net::TcpStream::connect(target).await.unwrap();
            let (flag_a, flag_b) = (flag.clone(), flag.clone());
            let ((client_read, client_write), (server_read, server_write)) =
                (client.into_split(), server.into_split());
            tokio::spawn(carry(client_read, server_write, flag_a));
            tokio::spawn(carry(server_read, client_write, flag_b));
        }
    });
    let mut agent = Agent::new(&plane, crate::agent::DATAPLANE).at(address);
    agent.run();
    answers(port, "one").await;
    swallow.store(true, std::sync::atomic::Ordering::Relaxed);
    let before = std::time::Instant::now();
    within(HANGS, "the agent notices", async || {
        agent.log().contains("not connected to the control plane").then_some(())
    })
    .await;
    println!("noticed after {:?}", before.elapsed());
    swallow.store(false, std::sync::atomic::Ordering::Relaxed);
    plane.sees("a second session", |state| (state.hellos.len() >= 2).then_some(())).await;
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    swallow: std::sync::Arc<std::sync::atomic::AtomicBool>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 {
            return;
        }
        if swallow.load(std::sync::atomic::Ordering::Relaxed) {
            // Nothing after a gap would make sense: this connection stays silent for good, but open.
            while from.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
