//! Real sockets on loopback.

use std::net::Ipv4Addr;

use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::http1;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A server, and what decides what it says.
struct World {
    address: SocketAddr,
    serving: watch::Sender<bool>,
    draining: CancellationToken,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl World {
    async fn new(probes: &str) -> Self {
        let settings =
            Settings { address: (HERE, 0).into(), application: HERE, probes: probes.parse().unwrap() };
        Self::start(Server::bind(settings).await.unwrap())
    }

    fn start(server: Server) -> Self {
        let address = server.addresses()[0];
        let (serving, draining) = (watch::Sender::new(false), CancellationToken::new());
        let state = State { serving: serving.subscribe(), draining: draining.clone() };
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server.run(state, shutdown.clone()));
        Self { address, serving, draining, shutdown, task }
    }

    async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let response = http1::request(stream, method, "pod", path).await.unwrap();
        (response.status, response.body.trim_end().to_owned())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path).await
    }
}

#[tokio::test]
async fn ready_is_who_serves_and_does_not_drain() {
    let world = World::new("{}").await;
    let (status, reason) = world.get("/ready").await;
    assert!(status == 503 && reason.starts_with("Envoy does not serve yet"), "{status} {reason}");
    world.serving.send_replace(true);
    assert_eq!(world.get("/ready").await, (200, "ok".into()));
    world.serving.send_replace(false);
    assert_eq!(world.get("/ready").await.0, 503);
    world.serving.send_replace(true);
    world.draining.cancel();
    assert_eq!(world.get("/ready").await, (503, "the proxy is draining".into()));
    world.shutdown.cancel();
    world.task.await.unwrap();
    assert!(TcpStream::connect(world.address).await.is_err());
}

#[tokio::test]
async fn probes_are_run_when_asked_for_also_while_draining() {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let world = World::new(&format!("{{\"web/liveness\": {{\"tcp\": {{\"port\": {port}}}}}}}")).await;
    assert_eq!(world.get("/probes/web/liveness").await, (200, "ok".into()));
    world.draining.cancel();
    assert_eq!(world.get("/probes/web/liveness").await, (200, "ok".into()));
    drop(listener);
    let (status, reason) = world.get("/probes/web/liveness").await;
    assert!(status == 503 && reason.starts_with("cannot connect to 127.0.0.1:"), "{status} {reason}");
}

#[tokio::test]
async fn a_probe_that_cannot_be_run_fails_with_the_reason() {
    let world = World::new("{\"web/liveness\": {\"exec\": {}}}").await;
    let (status, reason) = world.get("/probes/web/liveness").await;
    assert!(status == 503 && reason.contains("exec"), "{status} {reason}");
}

#[tokio::test]
async fn nothing_else_is_reachable() {
    let world = World::new("{\"web/liveness\": {\"tcp\": {\"port\": 1}}}").await;
    world.serving.send_replace(true);
    for path in [
        "/",
        "/ready/",
        "/readyz",
        "//ready",
        "/probes",
        "/probes/",
        "/probes/web",
        "/probes/web/readiness",
        "/probes/web/liveness/",
        "/probes/db/liveness",
        "/probes/../ready",
        "/probes/web%2Fliveness",
        "/metrics",
        "/config_dump",
        "/quitquitquit",
    ] {
        assert_eq!(world.get(path).await, (404, "not found".into()), "{path}");
    }
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(world.ask(method, "/ready").await.0, 405, "{method}");
    }
    assert_eq!(world.ask("HEAD", "/ready").await, (200, String::new()));
}

#[tokio::test]
async fn rubbish_and_silence_hold_up_nobody() {
    let world = World::new("{}").await;
    world.serving.send_replace(true);
    let mut open = Vec::new();
    for _ in 0..50 {
        open.push(TcpStream::connect(world.address).await.unwrap());
    }
    for rubbish in [&b"\0\xff\r\n\r\n"[..], b"GET\r\n\r\n", &vec![b'a'; 2 * MAX_HEAD]] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let _ = stream.write_all(rubbish).await;
    }
    assert_eq!(world.get("/ready").await.0, 200);
}

#[tokio::test]
async fn every_address_means_ipv6_too() {
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let settings = Settings { address: everywhere, application: HERE, probes: Probes::default() };
    let server = Server::bind(settings).await.unwrap();
    let addresses = server.addresses();
    let here = match TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await {
        Ok(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
        Err(_) => HERE, // This machine has no IPv6.
    };
    assert_eq!(addresses.len(), if here.is_ipv6() { 2 } else { 1 });
    let mut world = World::start(server);
    world.serving.send_replace(true);
    for ip in [HERE, here] {
        world.address = SocketAddr::new(ip, addresses[0].port());
        assert_eq!(world.get("/ready").await.0, 200, "{ip}");
    }
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = TcpListener::bind((HERE, 0)).await.unwrap().into_std().unwrap();
    let address = taken.local_addr().unwrap();
    let settings = Settings { address, application: HERE, probes: Probes::default() };
    let error = Server::bind(settings).await.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()), "{error}");
}
