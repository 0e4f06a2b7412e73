//! Wires the parts together and runs them until a signal.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum_server::Handle;
use kube::Client;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admission::{self, Admission};
use crate::config::RunArgs;
use crate::diagnostics::{self, Diagnostics};
use crate::meshes::Meshes;
use crate::metrics::Metrics;
use crate::mutate::Mutator;
use crate::namespaces::Namespaces;
use crate::validate::Validator;
use crate::{certificate, serve, settings};

/// How long requests still come after a pod was told to end: until every API server has heard that it is gone.
const KEEP_SERVING: Duration = Duration::from_secs(5);
/// How long requests under way may take then.
const GRACE: Duration = Duration::from_secs(6);

pub(crate) async fn run(args: RunArgs) -> anyhow::Result<()> {
    let listener = bind(args.address, "--address").await?;
    let diagnostics_listener = bind(args.diagnostics_address, "--diagnostics-address").await?;
    let client = Client::try_default().await.context("cannot find the API server")?;

    let (address, diagnostics_address) = (listener.local_addr()?, diagnostics_listener.local_addr()?);
    tracing::info!(%address, diagnostics = %diagnostics_address, "listening");

    let metrics = Arc::new(Metrics::new());
    let (synced_sender, synced) = watch::channel(false);
    let (stopping_sender, stopping) = watch::channel(false);
    // Each follows something for ever; without one of them, what is served would grow old unseen.
    let mut tasks = JoinSet::new();
    let tls = certificate::follow(&args, metrics.clone(), &mut tasks);
    let settings = settings::follow(args.settings_file, metrics.clone(), &mut tasks);
    let namespaces = Namespaces::follow(client.clone(), synced_sender, &mut tasks);
    let validator = Validator {
        meshes: Meshes::follow(client, &mut tasks),
        own_namespace: args.namespace.clone(),
        global: args.global_address,
    };

    let diagnostics = Diagnostics {
        tls: tls.clone(),
        settings: settings.clone(),
        synced,
        stopping,
        metrics: metrics.clone(),
    };
    let mutator = Mutator { settings, namespaces, own_namespace: args.namespace };
    let handle = Handle::new();
    let router = admission::router(Admission { mutator, validator, metrics });
    let mut serving = tokio::spawn(serve::serve(listener, router, tls.clone(), handle.clone()));
    let mut diagnosing =
        tokio::spawn(
            async move { axum::serve(diagnostics_listener, diagnostics::router(diagnostics)).await },
        );

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let patient = tokio::select! {
        _ = terminate.recv() => true,
        _ = interrupt.recv() => false,
        result = &mut serving => return result?.and(Err(anyhow::anyhow!("the server ended by itself"))),
        result = &mut diagnosing => {
            result?.context("the diagnostics failed")?;
            anyhow::bail!("the diagnostics ended by themselves")
        }
        Some(ended) = tasks.join_next() => {
            anyhow::bail!("what follows files, namespaces or meshes ended by itself: {ended:?}")
        }
    };
    tracing::info!("stopping");
    stopping_sender.send_replace(true);
    if patient {
        tokio::select! {
            () = tokio::time::sleep(KEEP_SERVING) => {}
            _ = interrupt.recv() => {}
        }
    }
    handle.graceful_shutdown(Some(GRACE));
    if tls.borrow().is_none() {
        // It never began to serve.
        return Ok(());
    }
    match tokio::time::timeout(GRACE * 2, serving).await {
        Ok(result) => result?,
        Err(_) => Ok(()),
    }
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {flag} {address}"))
}
