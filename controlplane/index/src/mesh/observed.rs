//! What was observed of a mesh's proxies, and its way into reports.

use tokio::sync::mpsc::UnboundedSender;
use ursa_crds::{Kind, ObjectKey, Spec};
use ursa_model::ProxyId;

use super::MeshState;
use crate::addresses::DataplaneAddresses;
use crate::insight::Insights;
use crate::offer::Offer;
use crate::report;

impl MeshState {
    /// Something was observed of a proxy that changes nothing for others.
    pub(crate) fn observe(&mut self, proxy: &str) {
        self.offer_dirty = true;
        self.progress_dirty = true;
        self.counted(proxy);
    }

    /// A proxy let somebody in without an identity of the mesh: only who reads reports is to know.
    pub(crate) fn counted(&mut self, proxy: &str) {
        self.observed.insert(proxy.to_owned());
    }

    /// Reports what was observed since the last time.
    pub(crate) fn report(
        &mut self,
        name: &str,
        zone: &str,
        insights: &Insights,
        dataplanes: &DataplaneAddresses,
        reports: &UnboundedSender<Offer>,
    ) {
        for proxy in std::mem::take(&mut self.observed) {
            let key = ObjectKey::in_mesh(Kind::Dataplane, name, &proxy);
            let report = match self.objects.get(&key).map(|object| &object.spec) {
                Some(Spec::Dataplane(spec)) => {
                    let insight = insights.get(&ProxyId::new(name, &proxy)).unwrap_or_default();
                    let presence = self.presence.get(&proxy);
                    let peers = dataplanes.named(&insight.unauthenticated_peers);
                    Offer::Offered(Box::new(report::object(zone, &proxy, spec, presence, &insight, peers)))
                }
                _ => Offer::Withdrawn(report::key(name, zone, &proxy)),
            };
            let _ = reports.send(report);
        }
    }
}
