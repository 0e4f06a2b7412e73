//! Which replica writes what all of them share, and which the others tell what they see.

use anyhow::Context as _;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use ursa_lease::{Candidate, Holder};
use ursa_sync::replicas::Leader;

/// The Lease of a namespace's control plane.
const LEASE: &str = "ursa-cp";

/// How it stands with the lead.
pub(crate) struct Leadership {
    /// By which the Lease names this replica.
    pub(crate) identity: String,
    /// Whether this replica leads.
    pub(crate) leads: watch::Receiver<bool>,
    /// Which one does, and where it is reached.
    pub(crate) leader: watch::Receiver<Option<Leader>>,
    /// Ends once the Lease is given up.
    pub(crate) task: JoinHandle<()>,
}

/// Takes part from now on until it is stopped. Nobody waits for it: all replicas serve proxies. `address`: where other
/// replicas reach this one.
pub(crate) async fn follow(
    namespace: &str,
    address: Option<String>,
    stop: CancellationToken,
) -> anyhow::Result<Leadership> {
    let client = Client::try_default().await.context("no Kubernetes cluster is configured")?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let identity = format!("{}_{}", host.trim(), uuid::Uuid::new_v4());
    let mut candidate = Candidate::new(client, namespace, LEASE, identity.clone()).at(address);
    let (leads, receiver) = watch::channel(false);
    let leader = reached(candidate.holder());
    let task = tokio::spawn(async move {
        let taking_part = async {
            loop {
                candidate.acquire(|| {}).await;
                leads.send_replace(true);
                candidate.keep().await;
                leads.send_replace(false);
            }
        };
        tokio::select! {
            () = taking_part => {}
            () = stop.cancelled() => {}
        }
        leads.send_replace(false);
        candidate.release().await;
    });
    Ok(Leadership { identity, leads: receiver, leader, task })
}

/// Holders that say where they are.
fn reached(mut holder: watch::Receiver<Option<Holder>>) -> watch::Receiver<Option<Leader>> {
    let (sender, leader) = watch::channel(None);
    tokio::spawn(async move {
        loop {
            let known = holder.borrow_and_update().clone();
            let known =
                known.and_then(|Holder { identity, address }| Some(Leader { identity, address: address? }));
            sender.send_replace(known);
            if holder.changed().await.is_err() {
                return;
            }
        }
    });
    leader
}
