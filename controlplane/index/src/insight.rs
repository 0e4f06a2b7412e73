//! What is known of the running proxies: connected, what they have acknowledged, what they refused.
//!
//! Invariant: everything here that is shown, counted or sent on is the merged truth of [`sources`]: what agents say here,
//! and what other replicas say of theirs.

mod behind;
mod news;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;
use ursa_crds::{DataplaneInsightSpec, ObservedCertificate, UnauthenticatedPeer};
use ursa_envoy::ResourceKey;
use ursa_model::ProxyId;

pub use behind::Behind;
pub use news::News;
use news::Subscribers;
use sources::Sources;

/// A resource that a proxy refused; the version before it stays in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The version that was refused.
    pub version: String,
    /// Envoy's words.
    pub message: String,
}

/// A certificate that was signed for a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The backend of the mesh that signed it.
    pub backend: String,
    /// Its end of life.
    pub expires: Timestamp,
    /// When it was signed; `None`: before the control plane started.
    pub signed_at: Option<Timestamp>,
}

/// What is known of one proxy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProxyInsight {
    /// Whether its agent is connected now.
    pub connected: bool,
    /// When its agent connected last.
    pub connected_at: Option<Timestamp>,
    /// When its agent was lost last.
    pub disconnected_at: Option<Timestamp>,
    /// Since when nobody knows whether its agent is connected: the replica that it talked to is not heard of.
    pub unheard_since: Option<Timestamp>,
    /// Version of the agent.
    pub agent_version: String,
    /// Version of Envoy.
    pub envoy_version: String,
    /// The number of the newest snapshot that it has acknowledged whole; 0 unless its agent talks to this replica.
    pub acknowledged: u64,
    /// Of a zone ingress: server names in the newest snapshot that it has acknowledged whole.
    pub server_names: Arc<BTreeSet<String>>,
    /// Inbound ports that its agent says are not ready; `None`: it has not said yet what is.
    pub unready: Option<BTreeSet<u16>>,
    /// Responses sent so far; 0 unless its agent talks to this replica.
    pub responses: u64,
    /// What it refused and has not since replaced.
    pub rejections: BTreeMap<ResourceKey, Rejection>,
    /// The last certificate that was signed for it.
    pub certificate: Option<Certificate>,
    /// Whom it let in without an identity of the mesh, newest first; which dataplane has an address is looked up when it
    /// is shown.
    pub unauthenticated_peers: Arc<[UnauthenticatedPeer]>,
    /// Of a mesh itself ([`ProxyId::mesh_itself`]): how far the proxies that talk to a replica are behind, by the UID of what they
    /// are behind with.
    pub behind: Arc<BTreeMap<String, Behind>>,
}

impl ProxyInsight {
    /// Whether they differ in more than whom the proxy let in, from which nothing is worked out.
    fn differs_in_more_than_peers(&self, other: &Self) -> bool {
        *self != Self { unauthenticated_peers: self.unauthenticated_peers.clone(), ..other.clone() }
    }
}

/// Insights by proxy; cheap to clone, all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Insights(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    sources: RwLock<Sources>,
    subscribers: Subscribers,
}

impl Insights {
    fn read(&self) -> RwLockReadGuard<'_, Sources> {
        self.0.sources.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Sources> {
        self.0.sources.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of one proxy.
    pub fn get(&self, proxy: &ProxyId) -> Option<ProxyInsight> {
        self.read().merged(proxy, None)
    }

    /// Looks at what is known of proxies of a mesh, without copying it: each with its insight, its certificate, and whether its
    /// agent talks to this replica.
    pub(crate) fn look_at<'p>(
        &self,
        mesh: &str,
        proxies: impl Iterator<Item = &'p str>,
        mut look: impl FnMut(&'p str, Option<&ProxyInsight>, Option<&Certificate>, bool),
    ) {
        let sources = self.read();
        for name in proxies {
            let proxy = ProxyId::new(mesh, name);
            look(name, sources.best(&proxy), sources.certificate(&proxy, None), sources.is_own(&proxy));
        }
    }

    /// Whether a proxy refused something and has not since replaced it.
    pub fn has_rejections(&self, proxy: &ProxyId) -> bool {
        self.read().best(proxy).is_some_and(|insight| !insight.rejections.is_empty())
    }

    /// Of the zone's ingresses, each of several pods apart.
    pub(crate) fn ingresses(&self) -> Vec<(ProxyId, ProxyInsight)> {
        self.read().ingresses()
    }

    /// A replica's own word on a mesh.
    pub(crate) fn says_of_mesh(&self, mesh: &str, behind: BTreeMap<String, Behind>) {
        self.update(&ProxyId::mesh_itself(mesh), |insight| {
            if *insight.behind != behind {
                insight.behind = Arc::new(behind);
            }
        });
    }

    /// What all other replicas say of a mesh together; `None` if there are no others.
    pub(crate) fn of_mesh(&self, mesh: &str) -> Option<BTreeMap<String, Behind>> {
        self.read().of_mesh(&ProxyId::mesh_itself(mesh))
    }

    /// Of one proxy, but for what its agent says to this replica.
    pub(crate) fn elsewhere(&self, proxy: &ProxyId) -> Option<ProxyInsight> {
        self.read().elsewhere(proxy)
    }

    /// Of one proxy, as everybody but one replica sees it: what that one is to be told.
    pub fn for_replica(&self, replica: &str, proxy: &ProxyId) -> Option<ProxyInsight> {
        self.read().merged(proxy, Some(replica))
    }

    /// Every proxy of which anybody but one replica knows something, and news from then on.
    pub fn follow_for_replica(&self, replica: &str) -> (Vec<ProxyId>, News) {
        let sources = self.read();
        (sources.proxies(Some(replica)).cloned().collect(), self.0.subscribers.subscribe())
    }

    /// Counts what happens all the time.
    pub fn count(&self, proxy: &ProxyId, change: impl FnOnce(&mut ProxyInsight)) {
        change(self.write().own_mut(proxy));
    }

    /// What was known before the control plane started; that agents are connected is seen anew.
    pub(crate) fn remember(&self, spec: &DataplaneInsightSpec) {
        let certificate = |held: &ObservedCertificate| Certificate {
            backend: held.backend.clone(),
            expires: held.expires,
            signed_at: None,
        };
        self.count(&ProxyId::new(&spec.mesh, &spec.dataplane), |insight| {
            insight.connected_at = spec.connected_at;
            insight.disconnected_at = spec.disconnected_at;
            insight.agent_version.clone_from(&spec.agent_version);
            insight.envoy_version.clone_from(&spec.envoy_version);
            insight.certificate = spec.certificate.as_ref().map(certificate);
            let peers = spec.unauthenticated_peers.iter().cloned();
            insight.unauthenticated_peers =
                peers.map(|peer| UnauthenticatedPeer { dataplane: None, ..peer }).collect();
        });
    }

    /// Changes what is known of one proxy; whether anything changed but counts of what happens all the time.
    pub(crate) fn update(&self, proxy: &ProxyId, change: impl FnOnce(&mut ProxyInsight)) -> bool {
        let mut sources = self.write();
        let insight = sources.own_mut(proxy);
        let before = insight.clone();
        change(insight);
        let changed = *insight
            != ProxyInsight { acknowledged: insight.acknowledged, responses: insight.responses, ..before };
        drop(sources);
        if changed {
            self.0.subscribers.tell([proxy]);
        }
        changed
    }

    /// A replica is heard of from now on, on a stream of this number; what it said before counts until it says otherwise.
    pub(crate) fn joined(&self, replica: &str) -> u64 {
        self.write().joined(replica)
    }

    /// What a replica has said so far, by proxy, in which version.
    pub(crate) fn said(&self, replica: &str) -> BTreeMap<ProxyId, String> {
        self.read().said(replica)
    }

    /// Takes the word of a replica; the proxies that it is about, each with whether it is more than whom it let in, or
    /// `None` if it has a newer stream.
    pub(crate) fn take(
        &self,
        replica: &str,
        stream: u64,
        upserts: Vec<(ProxyId, String, ProxyInsight)>,
        removals: Vec<ProxyId>,
    ) -> Option<Vec<(ProxyId, bool)>> {
        let changed = self.write().take(replica, stream, upserts, removals)?;
        self.0.subscribers.tell(changed.iter().map(|(proxy, _)| proxy));
        Some(changed)
    }

    /// A replica is not heard of any more, unless it has a newer stream; the proxies that it spoke of. Of those that do not
    /// exist any more nothing is kept.
    pub(crate) fn left(
        &self,
        replica: &str,
        stream: u64,
        since: Timestamp,
        exists: impl Fn(&ProxyId) -> bool,
    ) -> Vec<ProxyId> {
        let changed = self.write().left(replica, stream, since, exists);
        self.0.subscribers.tell(&changed);
        changed
    }

    /// How many proxies of a mesh hold a certificate that has not expired, by backend.
    pub(crate) fn certificates(&self, mesh: &str, now: Timestamp) -> BTreeMap<String, u32> {
        let sources = self.read();
        let mut count = BTreeMap::new();
        for proxy in sources.proxies(None).filter(|proxy| proxy.mesh == mesh) {
            if let Some(certificate) = sources.certificate(proxy, None).filter(|held| held.expires > now) {
                *count.entry(certificate.backend.clone()).or_default() += 1;
            }
        }
        count
    }

    /// Forgets a proxy whose dataplane is gone.
    pub(crate) fn remove(&self, proxy: &ProxyId) {
        self.write().remove(proxy);
        self.0.subscribers.tell([proxy]);
    }
}
