//! Which workloads of this zone a resource reaches: whose proxies have to follow it.

use ursa_crds::{Object, Spec, Tags};

use crate::policies::services;
use crate::selector::{best, governs, matches};
use crate::view::{MeshView, Seen, zone_of};
use crate::workload::Workload;

impl MeshView {
    /// Names of the workloads of this zone that are in the mesh, ordered.
    pub fn members_by_name(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(Workload::name)
    }

    /// Names of those whose traffic is captured.
    pub fn captured_by_name(&self) -> impl Iterator<Item = &str> {
        self.members.captured().map(String::as_str)
    }

    /// The zones whose workloads are believed in the mesh, with their roots.
    pub fn trusted_zones(&self) -> impl Iterator<Item = (&str, &str)> {
        let mesh = &self.input.name;
        self.trust().iter().filter_map(|(domain, roots)| Some((zone_of(domain, mesh)?, roots.as_str())))
    }

    /// Names of the workloads of this zone that a resource of the mesh reaches, ordered: of a permission those that are called,
    /// of a route those that call, of the mesh all.
    pub fn reached(&self, resource: &Object) -> Vec<&str> {
        let services = match &resource.spec {
            Spec::TrafficPermission(spec) => services(&spec.destinations),
            Spec::TrafficRoute(spec) => services(&spec.sources),
            _ => None,
        };
        let candidates = self.members.of(services.as_ref()).into_iter();
        candidates.filter(|name| self.is_reached(resource, name)).collect()
    }

    /// Whether it reaches one workload.
    pub fn is_reached(&self, resource: &Object, name: &str) -> bool {
        self.dataplane(name).is_some_and(|seen| reaches(resource, &seen))
    }
}

fn reaches(resource: &Object, Seen { spec: _, inbounds, caller }: &Seen<'_>) -> bool {
    let of_user = |tags: &&Tags| governs(resource, tags);
    match &resource.spec {
        Spec::TrafficPermission(spec) => inbounds
            .iter()
            .filter(of_user)
            .any(|tags| spec.destinations.iter().any(|to| matches(&to.match_tags, tags))),
        Spec::TrafficRoute(spec) => best(&spec.sources, caller.iter().filter(of_user)).is_some(),
        _ => true,
    }
}
