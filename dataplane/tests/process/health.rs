//! What a kubelet and a workload ask of the agent itself.

use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UdpSocket};
use ursa_model::InboundTls;
use ursa_proto::agent::{Name, Names};

use crate::agent::{Agent, DATAPLANE};
use crate::mesh::{LOCALHOST, Model, echo, free_port};
use crate::plane::{Plane, authority};
use crate::wait::eventually;

async fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let stream = TcpStream::connect((LOCALHOST, port)).await.ok()?;
    let response = ursa_dp::http1::request(stream, "GET", "pod", path).await.ok()?;
    Some((response.status, response.body))
}

async fn says(port: u16, path: &str, status: u16, words: &str) {
    eventually(&format!("{path} is {status}: {words}"), async || {
        let (said, body) = get(port, path).await?;
        (said == status && body.contains(words)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_ready_while_envoy_serves_and_nobody_drains() {
    let (application, port, health) = (echo("app").await, free_port(), free_port());
    let authority = authority();
    let tls = InboundTls {
        trust: [("east.default.ursamesh.io".into(), authority.root_pem().into())].into(),
        allowed: vec![],
        permissive: false,
    };
    let strict = Model::new().inbound(port, application, Some(tls)).resources();
    let plane = Plane::start(strict).await;
    let address = SocketAddr::new(LOCALHOST, health).to_string();
    let probes = format!("{{\"app/liveness\": {{\"tcp\": {{\"port\": {}}}}}}}", application.port());
    let mut agent = Agent::new(&plane, DATAPLANE)
        .with(&["--health-address", &address, "--probes", &probes])
        .with_drain_time("10s");
    agent.run();
    // Envoy has acknowledged its listener, which waits for the certificate.
    plane.sees_all_acknowledged(&[]).await;
    says(health, "/ready", 503, "Envoy does not serve yet").await;
    says(health, "/probes/app/liveness", 200, "ok").await;
    plane.set(|state| state.authority = Some((authority, Duration::from_hours(1))));
    says(health, "/ready", 200, "ok").await;
    kill(agent.envoy().await, Signal::SIGKILL).unwrap();
    says(health, "/ready", 503, "Envoy does not serve yet").await;
    says(health, "/ready", 200, "ok").await;
    // Plain again, so that a connection of this test keeps the drain waiting.
    plane.set(|state| state.resources = Model::new().inbound(port, application, None).resources());
    let mut open = eventually("a connection to the application", async || {
        let mut stream = TcpStream::connect((LOCALHOST, port)).await.ok()?;
        let mut name = [0; 3];
        let read = tokio::time::timeout(Duration::from_secs(1), stream.read_exact(&mut name)).await;
        matches!(read, Ok(Ok(_))).then_some(stream)
    })
    .await;
    agent.signal(Signal::SIGTERM);
    says(health, "/ready", 503, "draining").await;
    plane.sees("the agent says that it drains", |state| (state.drains == 1).then_some(())).await;
    says(health, "/ready", 503, "draining").await;
    says(health, "/probes/app/liveness", 200, "ok").await;
    assert!(open.try_read(&mut [0]).is_err(), "the connection ended before its time");
    tokio::io::AsyncWriteExt::shutdown(&mut open).await.unwrap();
    drop(open);
    assert!(agent.exit().await.success());
    assert_eq!(get(health, "/ready").await, None);
}

/// The status and the length of the answer about redis.demo.mesh.
async fn resolve(port: u16) -> Option<(u8, usize)> {
    let request = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x05redis\x04demo\x04mesh\0\0\x01\0\x01";
    let socket = UdpSocket::bind((LOCALHOST, 0)).await.ok()?;
    socket.connect((LOCALHOST, port)).await.ok()?;
    socket.send(request).await.ok()?;
    let mut answer = [0; 512];
    let read = tokio::time::timeout(Duration::from_secs(1), socket.recv(&mut answer)).await.ok()?.ok()?;
    Some((answer[3] & 0xf, read))
}

async fn resolves(port: u16, expected: (u8, usize)) {
    eventually(&format!("{expected:?} by DNS"), async || {
        (resolve(port).await == Some(expected)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_answered_also_by_an_agent_that_comes_back_without_the_control_plane() {
    let mut plane = Plane::start(Model::new().resources()).await;
    let port = free_port();
    let mut agent = Agent::new(&plane, DATAPLANE).with(&["--dns-port", &port.to_string()]);
    agent.run();
    // As long as names are not known they are not said to be absent.
    resolves(port, (2, 33)).await;
    let redis = Name { name: "redis.demo.mesh".into(), addresses: vec!["240.0.0.1".into()] };
    plane.set(|state| state.names = Some(Names { names: vec![redis] }));
    resolves(port, (0, 49)).await;
    eventually("the names are kept", async || agent.path("data/names.json").exists().then_some(())).await;
    agent.kill();
    plane.stop();
    agent.run();
    resolves(port, (0, 49)).await;
    agent.signal(Signal::SIGTERM);
    assert!(agent.exit().await.success());
}
