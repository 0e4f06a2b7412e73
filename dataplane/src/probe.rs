//! Whether an inbound serves: the application behind it (a probe, with thresholds) and Envoy in front of it.
//!
//! Invariant: an application that has not answered yet is not ready.

use std::collections::BTreeMap;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::dataplane_file::{Check, ProbeSpec};
use crate::http1;

/// Readiness by the inbound's port.
pub type Readiness = BTreeMap<u16, bool>;

/// Readiness of one inbound: changes only after as many equal results in a row as the threshold says.
#[derive(Clone, Debug)]
pub struct Judge {
    ready: bool,
    /// Results in a row that contradict `ready`.
    against: u32,
    healthy_threshold: u32,
    unhealthy_threshold: u32,
}

impl Judge {
    /// Not ready, with these thresholds.
    pub fn new(healthy_threshold: u32, unhealthy_threshold: u32) -> Self {
        Self { ready: false, against: 0, healthy_threshold, unhealthy_threshold }
    }

    /// Takes a result; says whether the application counts as ready.
    pub fn observe(&mut self, success: bool) -> bool {
        if success == self.ready {
            self.against = 0;
            return self.ready;
        }
        self.against += 1;
        let threshold = if self.ready { self.unhealthy_threshold } else { self.healthy_threshold };
        if self.against >= threshold {
            self.ready = success;
            self.against = 0;
        }
        self.ready
    }
}

/// Which of these inbounds serve: Envoy does, and the application, which does where it has no probe.
pub fn combined(inbounds: &[u16], applications: &Readiness, envoy: bool) -> Readiness {
    let ready = |port: &u16| envoy && applications.get(port).copied().unwrap_or(true);
    inbounds.iter().map(|port| (*port, ready(port))).collect()
}

/// Says which inbounds serve, whenever that changes, until shutdown.
pub async fn follow(
    inbounds: Vec<u16>,
    mut applications: watch::Receiver<Readiness>,
    mut envoy: watch::Receiver<bool>,
    readiness: watch::Sender<Readiness>,
    shutdown: CancellationToken,
) {
    loop {
        let now = combined(&inbounds, &applications.borrow_and_update(), *envoy.borrow_and_update());
        readiness.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
        tokio::select! {
            Ok(()) = applications.changed() => {}
            Ok(()) = envoy.changed() => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// What is known before the first probe.
pub fn initial(probes: &[ProbeSpec]) -> Readiness {
    probes.iter().map(|probe| (probe.inbound_port, false)).collect()
}

/// Probes until shutdown.
pub async fn run(probes: Vec<ProbeSpec>, readiness: watch::Sender<Readiness>, shutdown: CancellationToken) {
    let all = futures::future::join_all(probes.into_iter().map(|probe| run_one(probe, &readiness)));
    tokio::select! {
        _ = all => shutdown.cancelled().await, // There is none.
        () = shutdown.cancelled() => {}
    }
}

async fn run_one(spec: ProbeSpec, readiness: &watch::Sender<Readiness>) {
    let mut judge = Judge::new(spec.healthy_threshold, spec.unhealthy_threshold);
    let mut ticks = interval(spec.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let ready = judge.observe(probe(&spec).await);
        readiness.send_if_modified(|known| {
            let changed = known.insert(spec.inbound_port, ready) != Some(ready);
            if changed {
                info!(port = spec.inbound_port, target = %spec.target, ready, "application readiness changed");
            }
            changed
        });
    }
}

/// Probes once. True: success.
async fn probe(spec: &ProbeSpec) -> bool {
    let exchange = async {
        let stream = TcpStream::connect(spec.target).await.ok()?;
        match &spec.check {
            Check::Tcp => Some(true),
            Check::Http { path, expected } => {
                let response = http1::request(stream, "GET", &spec.target.to_string(), path).await.ok()?;
                Some(if expected.is_empty() {
                    (200..400).contains(&response.status)
                } else {
                    expected.contains(&response.status)
                })
            }
        }
    };
    timeout(spec.timeout, exchange).await.ok().flatten().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn readiness_changes_at_its_threshold_and_not_before() {
        let mut judge = Judge::new(2, 3);
        let results = [true, false, true, true, false, false, true, false, false, false, true, true];
        let verdicts: Vec<_> = results.into_iter().map(|success| judge.observe(success)).collect();
        assert_eq!(verdicts, [false, false, false, true, true, true, true, true, true, false, false, true]);
    }

    fn spec(target: std::net::SocketAddr, check: Check) -> ProbeSpec {
        ProbeSpec {
            inbound_port: 80,
            target,
            check,
            interval: Duration::from_millis(10),
            timeout: Duration::from_millis(500),
            unhealthy_threshold: 1,
            healthy_threshold: 1,
        }
    }

    /// An application that answers each connection with this.
    async fn application(answer: &'static str) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 1024];
                if stream.read(&mut head).await.is_ok_and(|read| head[..read].starts_with(b"GET /ready ")) {
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn an_http_probe_goes_by_the_status() {
        let http = |expected: &[u16]| Check::Http { path: "/ready".into(), expected: expected.to_vec() };
        let found = application("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n").await;
        assert!(probe(&spec(found, http(&[]))).await);
        assert!(probe(&spec(found, http(&[302]))).await);
        assert!(!probe(&spec(found, http(&[200]))).await);
        let broken = application("HTTP/1.1 500 Oh\r\n\r\n").await;
        assert!(!probe(&spec(broken, http(&[]))).await);
    }

    #[tokio::test]
    async fn a_tcp_probe_follows_the_application() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let probes = vec![spec(listener.local_addr().unwrap(), Check::Tcp)];
        let sender = watch::Sender::new(initial(&probes));
        let mut readiness = sender.subscribe();
        assert_eq!(*readiness.borrow(), [(80, false)].into());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(probes, sender, shutdown.clone()));
        let within = Duration::from_secs(10);
        timeout(within, readiness.wait_for(|known| known[&80])).await.unwrap().unwrap();
        drop(listener);
        timeout(within, readiness.wait_for(|known| !known[&80])).await.unwrap().unwrap();
        shutdown.cancel();
        task.await.unwrap();
    }
}
