//! Which workloads of this zone a resource reaches: whose proxies have to follow it.

use ursa_crds::{Object, Spec, Tags};

use crate::selector::{best, governs, matches};
use crate::view::{MeshView, Seen, zone_of};

impl MeshView {
    /// Names of the workloads of this zone that are in the mesh.
    pub fn members_by_name(&self) -> impl Iterator<Item = &str> {
        self.members().map(|workload| workload.dataplane.meta.name.as_str())
    }

    /// The zones whose workloads are believed in the mesh, with their roots.
    pub fn trusted_zones(&self) -> impl Iterator<Item = (&str, &str)> {
        let mesh = &self.input.name;
        self.trust().iter().filter_map(|(domain, roots)| Some((zone_of(domain, mesh)?, roots.as_str())))
    }

    /// Names of the workloads of this zone that each of these resources of the mesh reaches, in the order of the resources: of a
    /// permission those that are called, of a route those that call, of the mesh all.
    pub fn reached<'a>(&'a self, resources: &[&Object]) -> Vec<Vec<&'a str>> {
        let mut reached = vec![Vec::new(); resources.len()];
        for workload in self.members() {
            let name = workload.dataplane.meta.name.as_str();
            let Some(seen) = self.dataplane(name) else { continue };
            for (resource, reached) in resources.iter().zip(&mut reached) {
                if reaches(resource, &seen) {
                    reached.push(name);
                }
            }
        }
        reached
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
