//! What the control plane knows, and what each proxy is to get. One task writes; streams read through watch channels.
//!
//! ```text
//! store changes ─┐
//! agents' events ─┴▶ writer ─▶ MeshView ─▶ ProxyModel ─▶ resources ─▶ watch::Receiver<Snapshot> of each proxy
//! ```
//!
//! Invariant: a proxy whose resources did not change is not told anything.

mod addresses;
mod authority;
mod cause;
mod hearing;
mod ingress;
mod insight;
mod mesh;
mod offer;
mod presence;
mod presences;
pub mod provided;
mod report;
mod shift;
mod snapshot;
mod subscriber;
mod work;
mod writer;

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use ursa_crds::UnauthenticatedPeer;
use ursa_model::ProxyId;
use ursa_policy::ServiceAddress;
use ursa_store::Store;

pub use addresses::DataplaneAddresses;
pub use authority::{Authority, AuthorityError, SigningRequest};
pub use hearing::Hearing;
pub use insight::{Behind, Certificate, Insights, News, ProxyInsight, Rejection};
pub use mesh::progress::trusts;
pub use snapshot::{IdentityGrant, Names, ProxyView, Snapshot};
pub use ursa_envoy::{Weight, Weights};
pub use work::Work;

use work::Counted;
use writer::{Event, Writer};

/// A proxy's latest snapshot; `None` until its dataplane is known.
pub type SnapshotReceiver = watch::Receiver<Option<Arc<Snapshot>>>;

/// Access to the index; cheap to clone.
#[derive(Clone, Debug)]
pub struct Index {
    events: mpsc::UnboundedSender<Event>,
    insights: Insights,
    work: Counted,
}

impl Index {
    /// Starts the writer over a store. It ends when the last `Index` is dropped. What the zone offers to others is
    /// written into the store.
    pub fn start(store: Store, authority: Arc<Authority>) -> Self {
        Self::start_as_replica(store, authority, watch::channel(true).1)
    }

    /// The same where several control planes share a store: what they share is written by the one that leads.
    pub fn start_as_replica(store: Store, authority: Arc<Authority>, leads: watch::Receiver<bool>) -> Self {
        let (events, receiver) = mpsc::unbounded_channel();
        let insights = Insights::default();
        let work = Counted::default();
        let writer = Writer::new(store, authority, receiver, insights.clone(), leads, work.clone());
        tokio::spawn(writer.run());
        Self { events, insights, work }
    }

    /// Says where captured workloads call services, all of it and in order.
    pub fn call_at(&self, addresses: Arc<[ServiceAddress]>) {
        self.send(Event::Addresses(addresses));
    }

    /// What has been done so far.
    pub fn work(&self) -> Work {
        self.work.get()
    }

    /// What is known of the running proxies.
    pub fn insights(&self) -> &Insights {
        &self.insights
    }

    /// Another replica of this control plane is heard of, as long as the returned value lives.
    pub fn hear(&self, replica: &str) -> Hearing {
        Hearing::new(self, replica)
    }

    /// Says that a proxy's agent is here, as long as the returned value lives.
    pub fn connect(&self, proxy: &ProxyId) -> Connection {
        self.send(Event::Connected(proxy.clone()));
        Connection { index: self.clone(), proxy: proxy.clone() }
    }

    /// The stream of a proxy's snapshots.
    pub async fn subscribe(&self, proxy: &ProxyId) -> Option<SnapshotReceiver> {
        let (reply, receiver) = oneshot::channel();
        self.send(Event::Subscribe { proxy: proxy.clone(), reply });
        receiver.await.ok()
    }

    /// Changes what is known of a proxy.
    pub fn observe(&self, proxy: &ProxyId, change: impl FnOnce(&mut ProxyInsight)) {
        if self.insights.update(proxy, change) {
            self.send(Event::Observed(proxy.clone()));
        }
    }

    /// Says that a proxy's configuration goes over a new stream: what it follows, and what it refuses, it has yet to say. The
    /// stream of its snapshots.
    pub async fn opened(&self, proxy: &ProxyId) -> Option<SnapshotReceiver> {
        self.insights.count(proxy, |insight| insight.acknowledged = 0);
        self.send(Event::Acknowledged { proxy: proxy.clone(), sequence: 0 });
        let snapshots = self.subscribe(proxy).await;
        // Once the writer has heard the former, or what is refused would count as enforced for a moment.
        self.observe(proxy, |insight| insight.rejections.clear());
        snapshots
    }

    /// Says that a proxy has acknowledged a snapshot whole.
    pub fn acknowledged(&self, proxy: &ProxyId, snapshot: &Snapshot) {
        let mut before = 0;
        self.insights.count(proxy, |insight| {
            before = std::mem::replace(&mut insight.acknowledged, snapshot.sequence);
        });
        if before == snapshot.sequence {
            return;
        }
        self.send(Event::Acknowledged { proxy: proxy.clone(), sequence: snapshot.sequence });
        // What others wait for.
        let names = |insight: &mut ProxyInsight| insight.server_names.clone_from(&snapshot.server_names);
        if proxy.mesh.is_empty() && self.insights.update(proxy, names) {
            self.send(Event::IngressSettled);
        }
    }

    /// What a proxy is to do, and why; `None` if its dataplane is not known.
    pub async fn inspect(&self, proxy: &ProxyId) -> Option<ProxyView> {
        let (reply, receiver) = oneshot::channel();
        self.send(Event::Inspect { proxy: proxy.clone(), reply });
        receiver.await.ok().flatten()
    }

    fn send(&self, event: Event) {
        // The writer ends only after every sender is gone, or by a panic that has been logged.
        let _ = self.events.send(event);
    }
}

/// The presence of a proxy's agent. When it is dropped, the agent is taken to be lost, not to be gone.
#[derive(Debug)]
pub struct Connection {
    index: Index,
    proxy: ProxyId,
}

impl Connection {
    /// Which inbound ports the application does not serve at the moment.
    pub fn unready(&self, ports: BTreeSet<u16>) {
        // For the other replicas.
        self.index.insights.update(&self.proxy, |insight| insight.unready = Some(ports.clone()));
        self.index.send(Event::Unready { proxy: self.proxy.clone(), ports });
    }

    /// Whom its inbounds have let in without an identity of the mesh; all of them, newest first.
    pub fn unauthenticated_peers(&self, peers: &Arc<[UnauthenticatedPeer]>) {
        let take = |insight: &mut ProxyInsight| insight.unauthenticated_peers.clone_from(peers);
        if self.index.insights.update(&self.proxy, take) {
            self.index.send(Event::Counted(self.proxy.clone()));
        }
    }

    /// Takes the proxy's endpoints out; returns when every snapshot is without them.
    pub async fn drain(&self) {
        let (done, receiver) = oneshot::channel();
        self.index.send(Event::Draining { proxy: self.proxy.clone(), done });
        let _ = receiver.await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.index.send(Event::Disconnected(self.proxy.clone()));
    }
}
