//! What this zone offers to the others in a mesh.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;
use ursa_crds::{AvailableService, MeshZoneSpec, Meta, Object, Spec, ZoneBackend};
use ursa_model::{DestinationId, TrustDomain};

use super::MeshState;
use super::progress::PAUSE;
use crate::insight::Insights;
use crate::offer::Offer;

impl MeshState {
    /// Whether certificates of a backend that does not sign any more may still be in use.
    fn signed_lately(&self, backend: &str) -> bool {
        self.replaced.get(backend).is_some_and(|until| *until > Instant::now())
    }

    /// Whether it is time to say what this zone offers.
    pub(crate) fn offer_is_due(&self) -> bool {
        self.offer_dirty && self.offer_not_before.is_none_or(|at| at <= Instant::now())
    }

    /// What ingresses know has changed: more may be promised.
    pub(crate) fn ingresses_know_more(&mut self) {
        self.offer_dirty |= self.passed_on.passable != self.passed_on.server_names;
    }

    /// What this zone offers in this mesh.
    /// `acknowledged`: the server names that each of its ingresses knows. Of what one of them does not know yet nothing is
    /// promised; what was known before stays, though an ingress that has just come has yet to say so.
    pub(crate) fn offer(
        &mut self,
        name: &str,
        zone: &str,
        insights: &Insights,
        acknowledged: &[Arc<BTreeSet<String>>],
    ) -> Offer {
        let begun = Instant::now();
        self.offer_dirty = false;
        let Some(view) = &self.view else { return Offer::withdrawn(name, zone) };
        self.passed_on.refresh(view, &mut self.shift, zone);
        let roots = view.trust().get(&TrustDomain::new(zone, name).to_string()).cloned().unwrap_or_default();
        let named: BTreeSet<String> = view.named_subsets(zone).iter().map(DestinationId::sni).collect();
        let known = |name: &String| {
            self.passed_on.passable.contains(name) || acknowledged.iter().all(|known| known.contains(name))
        };
        let passable: BTreeSet<String> =
            self.passed_on.server_names.iter().filter(|name| known(name)).cloned().collect();
        let services = view.available_services().into_iter().map(|service| {
            // Without mutual TLS nothing crosses.
            let is_passable =
                self.passed_on.is_empty() || passable.contains(&view.whole(&service.tags).sni());
            AvailableService {
                instances: if is_passable { service.instances } else { 0 },
                tags: service.tags,
                protocol: tag_value(service.protocol).to_owned(),
                identity_services: service.identity_services,
            }
        });
        let services: Vec<AvailableService> = services.collect();
        let held = insights.certificates(name, Timestamp::now());
        let backend = |backend: &String| {
            // What nobody who is heard of knows may rely on any backend that signed lately.
            let may_be = if self.signed_lately(backend) { self.unknown_pods(name, insights) } else { 0 };
            ZoneBackend {
                name: backend.clone(),
                proxies: held.get(backend).copied().unwrap_or_default() + may_be,
            }
        };
        let spec = MeshZoneSpec {
            mesh: name.to_owned(),
            roots,
            backends: self.trust.backends.iter().map(backend).collect(),
            subsets: named.intersection(&passable).cloned().collect(),
            services,
            identities: Some(view.identities()),
        };
        self.passed_on.passable = passable;
        self.offer_not_before = Some(begun + begun.elapsed() * PAUSE);
        let meta = Meta { name: zone.to_owned(), ..Meta::default() };
        Offer::Offered(Box::new(Object { meta, spec: Spec::MeshZone(spec) }))
    }
}

fn tag_value(protocol: ursa_model::Protocol) -> &'static str {
    match protocol {
        ursa_model::Protocol::Tcp => "tcp",
        ursa_model::Protocol::Http => "http",
        ursa_model::Protocol::Http2 => "http2",
    }
}
