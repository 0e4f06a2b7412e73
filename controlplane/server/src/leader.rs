//! Which replica writes what all of them share.

use anyhow::Context as _;
use tokio::sync::watch;
use ursa_lease::Candidate;

/// The Lease of a namespace's control plane.
const LEASE: &str = "ursa-cp";

/// Whether this replica leads, from now on. Nobody waits for it: all replicas serve proxies.
pub(crate) async fn follow(namespace: &str) -> anyhow::Result<watch::Receiver<bool>> {
    let client = kube::Client::try_default().await.context("no Kubernetes cluster is configured")?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let identity = format!("{}_{}", host.trim(), uuid::Uuid::new_v4());
    let mut candidate = Candidate::new(client, namespace, LEASE, identity);
    let (leads, receiver) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            candidate.acquire(|| {}).await;
            leads.send_replace(true);
            candidate.keep().await;
            leads.send_replace(false);
        }
    });
    Ok(receiver)
}
