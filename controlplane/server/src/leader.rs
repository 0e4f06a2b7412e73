//! Which replica writes what all of them share, and which the others tell what they see.

use std::net::SocketAddr;

use anyhow::Context as _;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use ursa_lease::{Candidate, Holder};
use ursa_listen::Route;
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
    /// Gives the Lease up for good; connections still go to the one that leads then.
    pub(crate) resign: CancellationToken,
    /// Ends once that is done and the servers stop.
    pub(crate) task: JoinHandle<()>,
}

impl Leadership {
    /// Where the connections that this replica accepts at a port are served: by the one that leads, at the same port.
    pub(crate) fn route(&self, port: u16) -> watch::Receiver<Route> {
        let (mut leads, mut leader) = (self.leads.clone(), self.leader.clone());
        let own = self.identity.clone();
        let (sender, route) = watch::channel(Route::Nowhere);
        tokio::spawn(async move {
            loop {
                let known = leader.borrow_and_update().clone();
                let now = where_served(
                    *leads.borrow_and_update(),
                    known.filter(|known| known.identity != own),
                    port,
                );
                sender.send_if_modified(|known| std::mem::replace(known, now) != now);
                tokio::select! {
                    Ok(()) = leads.changed() => {}
                    Ok(()) = leader.changed() => {}
                    else => return,
                }
            }
        });
        route
    }
}

/// Does its work whenever this replica leads, until that ends by itself.
pub(crate) async fn while_leading<F: Future<Output = ()>>(
    mut leads: watch::Receiver<bool>,
    work: impl Fn() -> F,
) {
    while leads.wait_for(|leads| *leads).await.is_ok() {
        tokio::select! {
            () = work() => return,
            // If nobody can take the lead away any more, it stays.
            Ok(_) = leads.wait_for(|leads| !leads) => {}
        }
    }
}

fn where_served(leads: bool, leader: Option<Leader>, port: u16) -> Route {
    if leads {
        return Route::Here;
    }
    let address = leader.and_then(|leader| leader.address.parse::<SocketAddr>().ok());
    address.map_or(Route::Nowhere, |address| Route::At(SocketAddr::new(address.ip(), port)))
}

/// Takes part from now on until it resigns, and looks who leads until it is stopped. Nobody waits for it: all replicas serve proxies. `address`: where other
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
    let resign = stop.child_token();
    let resigned = resign.clone();
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
            () = resigned.cancelled() => {}
        }
        leads.send_replace(false);
        candidate.release().await;
        tokio::select! {
            () = candidate.watch() => {}
            () = stop.cancelled() => {}
        }
    });
    Ok(Leadership { identity, leads: receiver, leader, resign, task })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_to_the_replica_that_leads_at_the_same_port() {
        let leader = |address: &str| Some(Leader { identity: "other".into(), address: address.into() });
        assert_eq!(where_served(true, leader("10.0.0.1:5678"), 5685), Route::Here);
        assert_eq!(
            where_served(false, leader("10.0.0.1:5678"), 5685),
            Route::At(([10, 0, 0, 1], 5685).into())
        );
        assert_eq!(
            where_served(false, leader("[fd00::1]:5678"), 5682),
            Route::At("[fd00::1]:5682".parse().unwrap())
        );
        assert_eq!(where_served(false, leader("elsewhere"), 5685), Route::Nowhere);
        assert_eq!(where_served(false, None, 5685), Route::Nowhere);
    }
}
