//! Whether a resource makes sense: what its schema alone cannot say, in the order of its fields.

mod dataplane;
mod mesh;
mod meta;
mod secret;
mod tags;
mod traffic_permission;
mod traffic_route;
mod zone;

use std::sync::Arc;

use ursa_crds::{Object, ObjectKey, Problem, Spec, Tags};

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
        Spec::MeshZoneInsight(spec) => zone::check_mesh_zone_insight(object, spec, &mut problems),
        Spec::DataplaneInsight(spec) => zone::check_dataplane_insight(object, spec, &mut problems),
        Spec::Dataplane(spec) => dataplane::check(spec, &mut problems),
        Spec::TrafficPermission(spec) => traffic_permission::check(spec, &mut problems),
        Spec::TrafficRoute(spec) => traffic_route::check(spec, &mut problems),
    }
    problems.0
}

/// The same, and what is wrong with it among the objects that it depends on, which `lookup` gives. For what users write: what
/// was taken once stays as it is when others change, and what cannot be resolved then lets nobody in.
pub fn validate_among(object: &Object, lookup: impl Fn(&ObjectKey) -> Option<Arc<Object>>) -> Vec<Problem> {
    let mut problems = Problems(validate(object));
    if let Spec::TrafficPermission(spec) = &object.spec {
        let mesh = lookup(&ObjectKey::mesh(&spec.mesh));
        let mesh = mesh.as_ref().and_then(|object| match &object.spec {
            Spec::Mesh(mesh) => Some(mesh),
            _ => None,
        });
        traffic_permission::check_declared(spec, mesh, &mut problems);
    }
    problems.0
}

/// What is wrong with the tags of a data-plane token, in this field.
pub fn token_tag_problems(tags: &Tags, field: &str) -> Vec<Problem> {
    let mut problems = Problems::default();
    tags::check_proven(tags, field, &mut problems);
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
