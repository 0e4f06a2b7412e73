//! `TrafficPermission`.

use ursa_crds::{MeshSpec, TrafficPermissionSpec, tag};

use super::{Problems, tags};
use crate::grants::is_declared;

/// What every identity proves.
const SOURCE_KEYS: [&str; 3] = [tag::SERVICE, tag::ZONE, tag::NAMESPACE];

pub(super) fn check(spec: &TrafficPermissionSpec, problems: &mut Problems) {
    tags::selectors(&spec.sources, "spec.sources", problems);
    for (position, key) in other_keys(spec).filter(|(_, key)| tags::is_ursas(key)) {
        problems.add(
            field(position),
            format!(
                "{key} cannot select sources: of the tags of Ursa only {} are proved by a workload's certificate",
                SOURCE_KEYS.join(", ")
            ),
        );
    }
    tags::selectors(&spec.destinations, "spec.destinations", problems);
}

/// What a mesh has to declare for the permission to mean something.
pub(super) fn check_declared(spec: &TrafficPermissionSpec, mesh: Option<&MeshSpec>, problems: &mut Problems) {
    let declared = |key: &str| mesh.is_some_and(|mesh| is_declared(mesh, key));
    let others = other_keys(spec).filter(|(_, key)| !tags::is_ursas(key) && !declared(key));
    for (position, key) in others {
        problems.add(
            field(position),
            format!(
                "{key} cannot select sources: a certificate proves {} and the tags that the mesh declares as identity; to \
                 declare it, write Mesh {} spec.identityTags: [{{key: {key}}}]",
                SOURCE_KEYS.join(", "),
                spec.mesh
            ),
        );
    }
}

/// Keys of sources that not every identity proves, with the position of the source.
fn other_keys(spec: &TrafficPermissionSpec) -> impl Iterator<Item = (usize, &str)> {
    let all = spec
        .sources
        .iter()
        .enumerate()
        .flat_map(|(position, source)| source.match_tags.keys().map(move |key| (position, key.as_str())));
    all.filter(|(_, key)| !SOURCE_KEYS.contains(key))
}

fn field(position: usize) -> String {
    format!("spec.sources[{position}].match")
}
