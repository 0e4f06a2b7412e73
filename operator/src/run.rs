//! Wires the parts together, and ends them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, bail};
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use ursa_lease::Candidate;

use crate::args::RunArgs;
use crate::control_plane::plan::Defaults;
use crate::control_plane::{self, Context};
use crate::diagnostics::{self, Diagnostics};
use crate::{definitions, injection, names, zone_ingress};

/// Runs until SIGTERM or SIGINT, or until another one leads: then it fails, to be started anew.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let client = Client::try_default()
        .await
        .context("no Kubernetes cluster is configured: set KUBECONFIG, or run in a pod")?;
    let diagnostics = Diagnostics::default();
    let listener = TcpListener::bind(args.diagnostics_address)
        .await
        .with_context(|| format!("cannot listen on {}", args.diagnostics_address))?;
    info!(address = %listener.local_addr()?, "health and metrics");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let identity = args.identity.clone().unwrap_or_else(identity);
    let mut candidate = Candidate::new(client.clone(), &args.namespace, names::OPERATOR, identity.clone());
    let result = tokio::select! {
        ended = axum::serve(listener, diagnostics::router(diagnostics.clone())) => {
            ended.context("health and metrics ended")
        }
        led = lead(&mut candidate, &args, client, &diagnostics, identity) => led,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    candidate.release().await;
    result
}

/// Waits for the Lease and acts while it holds.
async fn lead(
    candidate: &mut Candidate,
    args: &RunArgs,
    client: Client,
    diagnostics: &Diagnostics,
    identity: String,
) -> anyhow::Result<()> {
    candidate.acquire(|| diagnostics.ready.store(true, Ordering::Release)).await;
    diagnostics.ready.store(false, Ordering::Release);
    diagnostics.metrics.leads(true);
    let acting = async {
        definitions::install(&client).await?;
        diagnostics.ready.store(true, Ordering::Release);
        let reporter = Reporter { controller: names::OPERATOR.into(), instance: Some(identity) };
        let context = Context {
            recorder: Recorder::new(client.clone(), reporter),
            defaults: Defaults {
                image: args.image.clone(),
                dataplane_image: args.dataplane_image.clone(),
                operator_account: args.service_account.clone(),
            },
            metrics: diagnostics.metrics.clone(),
            client,
        };
        let context = Arc::new(context);
        tokio::select! {
            () = control_plane::run(context.clone(), &args.namespace) => bail!("the controller of ControlPlanes ended"),
            () = zone_ingress::run(context.clone(), &args.namespace) => bail!("the controller of ZoneIngresses ended"),
            () = injection::run(context, &args.namespace) => bail!("the watch of pods ended"),
        }
    };
    tokio::select! {
        ended = acting => ended,
        () = candidate.keep() => bail!("the Lease is lost: another operator may act now"),
    }
}

/// The pod's name, as its host name, and the process, so that a new start is another candidate.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let now = jiff::Timestamp::now().as_microsecond();
    format!("{}_{}_{now}", host.trim(), std::process::id())
}
