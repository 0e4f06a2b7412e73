//! `TrafficPermission`.

use ursa_crds::{TrafficPermissionSpec, tag};

use super::{Problems, tags};

/// What an identity proves.
const SOURCE_KEYS: [&str; 3] = [tag::SERVICE, tag::ZONE, tag::NAMESPACE];

pub(super) fn check(spec: &TrafficPermissionSpec, problems: &mut Problems) {
    tags::selectors(&spec.sources, "spec.sources", problems);
    for (position, selector) in spec.sources.iter().enumerate() {
        if let Some(key) = selector.match_tags.keys().find(|key| !SOURCE_KEYS.contains(&key.as_str())) {
            problems.add(
                format!("spec.sources[{position}].match"),
                format!(
                    "{key} cannot select sources: only {} are proved by a workload's certificate; \
                     other tags would have to be declared as identity by the mesh, which this version does not support",
                    SOURCE_KEYS.join(", ")
                ),
            );
        }
    }
    tags::selectors(&spec.destinations, "spec.destinations", problems);
}
