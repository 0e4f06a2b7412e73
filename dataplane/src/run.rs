//! Wires the parts together, and ends them in order.
//!
//! Invariant: one shutdown token; when [`run`] returns, Envoy has ended and the last-good set is on disk.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use ursa_envoy::BootstrapSettings;
use ursa_proto::agent::Hello;

use crate::admin::{self, Admin};
use crate::certificates::store::IdentityStore;
use crate::certificates::{self, Certificates};
use crate::config::{Config, ProxyType};
use crate::cp::{ControlPlane, Trust};
use crate::dataplane_file::DataplaneFile;
use crate::drain::Drain;
use crate::files::{lock_dir, private_dir, remove_stale, socket_path};
use crate::peers::{AccessLog, PeerCounter};
use crate::xds::store::Store;
use crate::xds::{downstream, engine};
use crate::{dataplane_file, dns, envoy, health, probe};

/// Bound for the tasks to end after Envoy has.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Runs the proxy until it is told to stop. To be awaited on the main thread (see [`envoy::supervise`]).
pub async fn run(config: Config) -> anyhow::Result<()> {
    let signals = Signals::new()?; // First of all: until then a signal is lost on the first process of a container.
    let agent_socket = socket_path(&config.run_dir, "xds.sock")?;
    let admin_socket = admin::socket(&config.run_dir)?;
    let file = identify(&config)?;
    let trust = match (config.ca_file, config.ca_pem) {
        (Some(file), _) => Trust::File(file),
        (None, Some(pem)) => Trust::Pem(pem),
        _ => bail!("--ca-file or --ca-pem says by what the control plane is trusted"),
    };
    trust.roots()?;
    for folder in [&config.run_dir, &config.data_dir] {
        private_dir(folder)?;
    }
    let _run_lock = lock_dir(&config.run_dir)?;
    let _data_lock = lock_dir(&config.data_dir)?;
    let health = match config.health_address {
        Some(address) => {
            let application = config.pod_ips.first().copied().unwrap_or(Ipv4Addr::LOCALHOST.into());
            let probes = config.probes.unwrap_or_default();
            Some(health::Server::bind(health::Settings { address, application, probes }).await?)
        }
        None => None,
    };
    let dns = match config.dns_port.or(file.captured.then_some(dns::PORT)) {
        Some(port) => Some(dns::Server::bind(dns::Settings { port, ..Default::default() }).await?),
        None => None,
    };
    let envoy_version = envoy::version(&config.envoy).await?;
    let node_id = file.proxy.to_string();
    info!(proxy = node_id, envoy_version, cp = %config.cp_address, "starting");

    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();

    let identities = IdentityStore::new(&config.data_dir);
    let held = watch::Sender::new(certificates::load(&identities, &file.proxy));
    let secret =
        watch::Sender::new(held.borrow().as_deref().map(|held| Arc::new(certificates::secret(held))));
    let announced = watch::Sender::new(None);
    let link = watch::Sender::new(None);
    let applications = watch::Sender::new(probe::initial(&file.probes));
    let readiness = watch::Sender::new(probe::combined(&file.inbounds, &applications.borrow(), false));
    let drain = Drain {
        draining: CancellationToken::new(),
        announced: CancellationToken::new(),
        admin: Admin::new(admin_socket.clone()),
        drain_time: config.drain_time,
    };

    let (engine, handle) = engine::engine(Store::new(&config.data_dir, &node_id));
    let envoy_serves = engine.serving();
    if let Some(server) = health {
        let state = health::State { serving: envoy_serves.clone(), draining: drain.draining.clone() };
        tasks.spawn(server.run(state, shutdown.clone()));
    }
    let kept_names = dns::store::Store::new(&config.data_dir, &node_id);
    let names = watch::Sender::new(Arc::new(kept_names.load()));
    tasks.spawn(kept_names.follow(names.subscribe(), shutdown.clone()));
    if let Some(server) = dns {
        tasks.spawn(server.run(names.subscribe(), shutdown.clone()));
    }
    tasks.spawn(tell_supervisor(envoy_serves.clone(), shutdown.clone()));
    tasks.spawn(engine.run(secret.subscribe(), shutdown.clone()));
    let listener = downstream::bind(&agent_socket)
        .with_context(|| format!("cannot listen at {}", agent_socket.display()))?;
    let peers = watch::Sender::new(PeerCounter::default());
    let access_log = AccessLog { counter: peers.clone(), shutdown: shutdown.clone() };
    let serving = downstream::serve(listener, handle.clone(), access_log, shutdown.clone());
    tasks.spawn(async move {
        if let Err(error) = serving.await {
            warn!(%error, "the server for Envoy failed");
        }
    });
    tasks.spawn(follow(held.subscribe(), secret, shutdown.clone()));
    let control_plane = ControlPlane {
        address: config.cp_address,
        trust,
        token_file: config.token_file,
        hello: Hello {
            resource: file.bytes,
            agent_version: env!("CARGO_PKG_VERSION").into(),
            envoy_version,
            node_id: node_id.clone(),
        },
        held: held.subscribe(),
        readiness: readiness.subscribe(),
        peers: peers.subscribe(),
        announced: announced.clone(),
        names,
        link: link.clone(),
        engine: handle,
        draining: drain.draining.clone(),
        announced_drain: drain.announced.clone(),
    };
    tasks.spawn(control_plane.run(shutdown.clone()));
    let certificates =
        Certificates { announced: announced.subscribe(), link: link.subscribe(), held, store: identities };
    tasks.spawn(certificates.run(shutdown.clone()));
    let inbounds =
        probe::follow(file.inbounds, applications.subscribe(), envoy_serves, readiness, shutdown.clone());
    tasks.spawn(inbounds);
    tasks.spawn(probe::run(file.probes, applications, shutdown.clone()));

    let settings = envoy::Settings {
        envoy: config.envoy,
        bootstrap: BootstrapSettings {
            node_id,
            agent_socket: agent_socket.clone(),
            admin_socket: admin_socket.clone(),
        },
        bootstrap_file: config.run_dir.join("bootstrap.json"),
        drain_time: config.drain_time,
        concurrency: config.concurrency,
    };
    let stop = CancellationToken::new();
    let proxy = async {
        tokio::join!(envoy::supervise(settings, stop.clone()), until_stopped(signals, drain, &stop))
    };
    let result = tokio::select! {
        (supervised, ()) = proxy => supervised.context("cannot run Envoy"),
        ended = tasks.join_next() => match ended {
            Some(Err(error)) => Err(error).context("a part of the agent failed"),
            _ => bail!("a part of the agent ended by itself"),
        },
    };

    shutdown.cancel();
    let all = async { while tasks.join_next().await.is_some() {} };
    if timeout(END_WITHIN, all).await.is_err() {
        warn!("not all parts ended in time");
    }
    for socket in [&agent_socket, &admin_socket] {
        if let Err(error) = remove_stale(socket) {
            warn!(socket = %socket.display(), %error, "cannot remove the socket");
        }
    }
    info!("stopped");
    result
}

/// What this proxy is.
fn identify(config: &Config) -> anyhow::Result<DataplaneFile> {
    let is_ingress = config.proxy_type == Some(ProxyType::Ingress);
    match (&config.dataplane_file, &config.pod_name, &config.pod_namespace, &config.ingress_name) {
        (Some(file), ..) => Ok(dataplane_file::read(file, config.proxy_type)?),
        (None, Some(pod), _, Some(ingress)) if is_ingress => Ok(dataplane_file::of_ingress(ingress, pod)),
        (None, Some(_), _, None) if is_ingress => {
            bail!("--ingress-name says which ZoneIngress this pod is of")
        }
        (None, Some(_), _, Some(_)) => bail!("--ingress-name is for --proxy-type ingress"),
        (None, Some(pod), Some(namespace), None) => Ok(dataplane_file::of_pod(&config.mesh, namespace, pod)),
        _ => bail!("either --dataplane-file, or --pod-name and --pod-namespace, say what this proxy is"),
    }
}

/// Tells systemd, if it is there, once the proxy serves. Source: `sd_notify(3)`.
async fn tell_supervisor(mut serving: watch::Receiver<bool>, shutdown: CancellationToken) {
    if serving.wait_for(|serves| *serves).await.is_ok()
        && let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready])
    {
        warn!(%error, "cannot tell systemd that the proxy serves");
    }
    // A part of the agent that ends ends the agent.
    shutdown.cancelled().await;
}

/// Hands each new certificate to the relay.
async fn follow(
    mut held: watch::Receiver<Option<Arc<certificates::store::Held>>>,
    secret: watch::Sender<Option<Arc<crate::xds::cache::Entry>>>,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            Ok(()) = held.changed() => {
                let entry = held.borrow_and_update().as_deref().map(|held| Arc::new(certificates::secret(held)));
                secret.send_replace(entry);
            }
            () = shutdown.cancelled() => return,
        }
    }
}

/// Waits for a signal and drains; a second signal ends that. Then Envoy is to stop.
async fn until_stopped(mut signals: Signals, drain: Drain, stop: &CancellationToken) {
    let _stop = stop.clone().drop_guard();
    let name = signals.next().await;
    info!(signal = name, drain_time = ?drain.drain_time, "draining");
    tokio::select! {
        () = drain.run() => info!("drained"),
        name = signals.next() => warn!(signal = name, "told again: stopping at once"),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::{Cli, Command};

    fn proxy(flags: &str) -> Result<String, String> {
        let common =
            "ursa-dp run --token-file t --cp-address https://cp --ca-file ca --data-dir d --run-dir r";
        let line = format!("{common} {flags}");
        let cli = Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        let Command::Run(config) = cli.command else { panic!("another command") };
        identify(&config).map(|file| file.proxy.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_pod_is_of_a_workload_or_of_an_ingress_and_says_which() {
        let pod = "--pod-name web-1 --pod-namespace shop";
        assert_eq!(proxy(pod).unwrap(), "default/web-1.shop");
        assert_eq!(proxy(&format!("{pod} --proxy-type ingress --ingress-name in")).unwrap(), "/in/web-1");
        for (flags, word) in [
            (format!("{pod} --proxy-type ingress"), "--ingress-name"),
            (format!("{pod} --ingress-name in"), "--proxy-type ingress"),
            ("--proxy-type ingress --ingress-name in".to_owned(), "--pod-name"),
        ] {
            let error = proxy(&flags).unwrap_err();
            assert!(error.contains(word), "{flags}: {error}");
        }
    }
}
