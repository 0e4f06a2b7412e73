//! Order when a proxy ends.

use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::agent::{Agent, DATAPLANE, is_gone};
use crate::mesh::{LOCALHOST, Model, answers, echo, free_port};
use crate::plane::Plane;

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_drains_before_it_ends() {
    let application = echo("app").await;
    let port = free_port();
    let plane = Plane::start(Model::new().inbound(port, application, None).resources()).await;
    let mut agent = Agent::new(&plane, DATAPLANE).with_drain_time("10s");
    agent.run();
    answers(port, "app").await;
    let envoy = agent.envoy().await;
    let mut open = TcpStream::connect((LOCALHOST, port)).await.unwrap();
    let mut name = [0; 3];
    open.read_exact(&mut name).await.unwrap();
    agent.signal(Signal::SIGTERM);
    plane.sees("the agent says that it drains", |state| (state.drains == 1).then_some(())).await;
    // The open connection still works, and when it ends, so does the proxy, long before the drain time is over.
    open.write_all(b"still").await.unwrap();
    let mut word = [0; 5];
    open.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"still");
    let before = std::time::Instant::now();
    drop(open);
    assert!(agent.exit().await.success());
    assert!(before.elapsed().as_secs() < 8, "{:?}", before.elapsed());
    is_gone(envoy).await;
    assert!(!agent.path("run/xds.sock").exists() && !agent.path("run/admin.sock").exists());
    // The session is over; the agent did not come back to a control plane that had said goodbye.
    assert_eq!(plane.see(|state| state.hellos.len()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_drain() {
    let application = echo("app").await;
    let port = free_port();
    let plane = Plane::start(Model::new().inbound(port, application, None).resources()).await;
    let mut agent = Agent::new(&plane, DATAPLANE).with_drain_time("600s");
    agent.run();
    answers(port, "app").await;
    let envoy = agent.envoy().await;
    let _open = TcpStream::connect((LOCALHOST, port)).await.unwrap();
    agent.signal(Signal::SIGTERM);
    plane.sees("the agent says that it drains", |state| (state.drains == 1).then_some(())).await;
    agent.signal(Signal::SIGTERM);
    assert!(agent.exit().await.success());
    is_gone(envoy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_ends_without_the_control_plane() {
    let mut plane = Plane::start(Model::new().resources()).await;
    let mut agent = Agent::start(&plane);
    plane.sees("a session", |state| (state.hellos.len() == 1).then_some(())).await;
    let envoy = agent.envoy().await;
    plane.stop();
    agent.signal(Signal::SIGINT);
    assert!(agent.exit().await.success());
    is_gone(envoy).await;
}
