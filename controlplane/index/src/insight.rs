//! What is known of the running proxies: connected, what they have acknowledged, what they refused.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use ursa_crds::{DataplaneInsightSpec, ObservedCertificate};
use ursa_envoy::ResourceKey;
use ursa_model::ProxyId;

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
    /// Version of the agent.
    pub agent_version: String,
    /// Version of Envoy.
    pub envoy_version: String,
    /// The number of the newest snapshot that it has acknowledged whole.
    pub acknowledged: u64,
    /// Responses sent so far.
    pub responses: u64,
    /// What it refused and has not since replaced.
    pub rejections: BTreeMap<ResourceKey, Rejection>,
    /// The last certificate that was signed for it.
    pub certificate: Option<Certificate>,
}

/// Insights by proxy; cheap to clone, all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Insights(Arc<RwLock<HashMap<ProxyId, ProxyInsight>>>);

impl Insights {
    /// Of one proxy.
    pub fn get(&self, proxy: &ProxyId) -> Option<ProxyInsight> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(proxy).cloned()
    }

    /// Counts what happens all the time.
    pub fn count(&self, proxy: &ProxyId, change: impl FnOnce(&mut ProxyInsight)) {
        change(self.0.write().unwrap_or_else(PoisonError::into_inner).entry(proxy.clone()).or_default());
    }

    /// What was known before the control plane started; that agents are connected is seen anew.
    pub(crate) fn remember(&self, spec: &DataplaneInsightSpec) {
        let certificate =
            |held: &ObservedCertificate| Certificate { backend: held.backend.clone(), expires: held.expires };
        self.count(&ProxyId::new(&spec.mesh, &spec.dataplane), |insight| {
            insight.connected_at = spec.connected_at;
            insight.disconnected_at = spec.disconnected_at;
            insight.agent_version.clone_from(&spec.agent_version);
            insight.envoy_version.clone_from(&spec.envoy_version);
            insight.certificate = spec.certificate.as_ref().map(certificate);
        });
    }

    /// Changes what is known of one proxy; whether anything changed but counts of what happens all the time.
    pub(crate) fn update(&self, proxy: &ProxyId, change: impl FnOnce(&mut ProxyInsight)) -> bool {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let insight = all.entry(proxy.clone()).or_default();
        let before = insight.clone();
        change(insight);
        *insight
            != ProxyInsight { acknowledged: insight.acknowledged, responses: insight.responses, ..before }
    }

    /// How many proxies of a mesh hold a certificate that has not expired, by backend.
    pub(crate) fn certificates(&self, mesh: &str, now: Timestamp) -> BTreeMap<String, u32> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut count = BTreeMap::new();
        for (_, insight) in all.iter().filter(|(proxy, _)| proxy.mesh == mesh) {
            if let Some(certificate) = insight.certificate.as_ref().filter(|held| held.expires > now) {
                *count.entry(certificate.backend.clone()).or_default() += 1;
            }
        }
        count
    }

    /// Forgets a proxy whose dataplane is gone.
    pub(crate) fn remove(&self, proxy: &ProxyId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(proxy);
    }
}
