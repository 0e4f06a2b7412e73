//! What the zone's ingresses pass on for a mesh: worked out when it is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;
use ursa_envoy::{Interner, Resource, ingress_endpoint_resource};
use ursa_model::{DestinationId, IngressRoute};
use ursa_policy::{MeshView, Touched};

use super::MeshState;
use crate::shift::Shift;

#[derive(Debug, Default)]
pub(super) struct PassedOn {
    routes: Vec<IngressRoute>,
    /// Server names of that, and of what they would pass on if there were instances.
    pub(super) server_names: BTreeSet<String>,
    /// Where the instances are, as far as it was asked for and has not changed.
    endpoints: BTreeMap<DestinationId, Arc<Resource>>,
    /// Those server names that the ingresses know for certain.
    pub(super) passable: BTreeSet<String>,
    /// Something has changed since.
    outdated: bool,
}

impl PassedOn {
    /// Whether there is anything to pass on.
    pub(super) fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Something may have changed; `None`: all. `due`: or it is time for what was on its way.
    pub(super) fn touch(&mut self, touched: Option<&Touched>, due: bool) {
        self.outdated |= due || touched.is_none_or(|touched| touched.passable);
        match touched {
            None => self.endpoints.clear(),
            Some(Touched { services, .. }) if services.is_empty() => {}
            Some(Touched { services, .. }) => self.endpoints.retain(|id, _| !services.contains(&id.service)),
        }
    }

    /// Works out what has changed.
    pub(super) fn refresh(&mut self, view: &MeshView, shift: &mut Shift, zone: &str) {
        if !std::mem::take(&mut self.outdated) {
            return;
        }
        let subsets = shift.pass_on(view.named_subsets(zone), Instant::now());
        self.server_names = subsets.iter().map(DestinationId::sni).collect();
        self.routes = view.ingress_routes(subsets);
        self.server_names.extend(self.routes.iter().map(|route| route.destination.sni()));
        let routes: BTreeSet<&DestinationId> = self.routes.iter().map(|route| &route.destination).collect();
        self.endpoints.retain(|id, _| routes.contains(id));
    }

    fn endpoints(&mut self, view: &MeshView, interner: &mut Interner) -> Vec<Arc<Resource>> {
        let known = &mut self.endpoints;
        let of = |IngressRoute { destination }: &IngressRoute| {
            if let Some(resource) = known.get(destination) {
                return resource.clone();
            }
            let set = view.local_endpoints(destination);
            let resource = ingress_endpoint_resource(&destination.name(), &set, interner);
            known.insert(destination.clone(), resource.clone());
            resource
        };
        self.routes.iter().map(of).collect()
    }
}

/// What ingresses pass on for a mesh.
pub(crate) struct ForIngress<'a> {
    pub(crate) routes: &'a [IngressRoute],
    /// Where it goes, in their order.
    pub(crate) endpoints: Vec<Arc<Resource>>,
    pub(crate) server_names: &'a BTreeSet<String>,
}

impl MeshState {
    /// What the zone's ingresses pass on.
    pub(crate) fn for_ingress(&mut self, zone: &str, interner: &mut Interner) -> Option<ForIngress<'_>> {
        let view = self.view.as_ref()?;
        self.passed_on.refresh(view, &mut self.shift, zone);
        let endpoints = self.passed_on.endpoints(view, interner);
        let PassedOn { routes, server_names, .. } = &self.passed_on;
        Some(ForIngress { routes, endpoints, server_names })
    }
}
