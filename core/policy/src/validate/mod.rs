//! Whether a resource makes sense: what its schema alone cannot say, in the order of its fields.

mod dataplane;
mod mesh;
mod meta;
mod secret;
mod tags;
mod traffic_permission;
mod traffic_route;
mod zone;

use ursa_crds::{Object, Problem, Spec};

/// Everything that is wrong with a resource; empty if nothing is.
pub fn validate(object: &Object) -> Vec<Problem> {
    let mut problems = Problems::default();
    meta::check(object, &mut problems);
    if let Some(mesh) = object.spec.mesh() {
        meta::label(mesh, "spec.mesh", &mut problems);
    }
    match &object.spec {
        Spec::Mesh(spec) => mesh::check(spec, &mut problems),
        Spec::Secret(spec) => secret::check(spec, &mut problems),
        Spec::Zone(_) | Spec::ZoneInsight(_) => {
            meta::label(&object.meta.name, "metadata.name", &mut problems);
        }
        Spec::ZoneIngress(spec) => zone::check_ingress(spec, &mut problems),
        Spec::MeshZone(spec) => zone::check_mesh_zone(object, spec, &mut problems),
        Spec::DataplaneInsight(spec) => zone::check_dataplane_insight(object, spec, &mut problems),
        Spec::Dataplane(spec) => dataplane::check(spec, &mut problems),
        Spec::TrafficPermission(spec) => traffic_permission::check(spec, &mut problems),
        Spec::TrafficRoute(spec) => traffic_route::check(spec, &mut problems),
    }
    problems.0
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem::new(field, message));
    }

    /// The bounds of the schema, which nobody else checks outside Kubernetes.
    fn at_most(&mut self, limit: usize, length: usize, field: impl Into<String>) {
        self.require(length <= limit, field, format!("has {length} entries; at most {limit} are allowed"));
    }

    fn require(&mut self, holds: bool, field: impl Into<String>, message: impl Into<String>) {
        if !holds {
            self.add(field, message);
        }
    }
}
