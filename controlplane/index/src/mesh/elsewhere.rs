//! What other replicas of the control plane say of a mesh's proxies.

use tokio::time::Instant;
use ursa_crds::{Kind, ObjectKey};
use ursa_model::ProxyId;

use super::MeshState;
use crate::insight::{Insights, ProxyInsight};
use crate::presence::Presence;

impl MeshState {
    /// Whether there is a dataplane of this name.
    pub(crate) fn knows(&self, mesh: &str, dataplane: &str) -> bool {
        self.objects.contains_key(&ObjectKey::in_mesh(Kind::Dataplane, mesh, dataplane))
    }

    /// Another replica says something of a proxy: `elsewhere` is what is known of it but for its agent's words here.
    pub(crate) fn heard(&mut self, mesh: &str, proxy: &str, elsewhere: &ProxyInsight, now: Instant) {
        self.observe(proxy);
        // Of a pod the kubelet knows what is ready.
        if self
            .objects
            .get(&ObjectKey::in_mesh(Kind::Dataplane, mesh, proxy))
            .is_some_and(|o| o.is_discovered())
        {
            return;
        }
        // Its dataplane may come later.
        let new = elsewhere.connected.then(|| Presence::new(now));
        let changed = self.presence.change(proxy, new, |presence| {
            presence.elsewhere(elsewhere.connected, elsewhere.unready.as_ref(), now);
        });
        if changed {
            self.pending.dataplanes.insert(proxy.to_owned());
        }
    }

    /// Pods of which no replica that is heard of knows what certificate they hold.
    pub(super) fn unknown_pods(&self, mesh: &str, insights: &Insights) -> u32 {
        let pods = self.of(Kind::Dataplane).filter(|object| object.is_discovered());
        let unknown = pods.filter(|pod| {
            let insight = insights.get(&ProxyId::new(mesh, &pod.meta.name));
            insight.is_none_or(|insight| insight.certificate.is_none() || insight.unheard_since.is_some())
        });
        unknown.count().try_into().unwrap_or(u32::MAX)
    }
}
