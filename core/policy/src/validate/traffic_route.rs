//! `TrafficRoute`.

use ursa_crds::{TrafficRouteSpec, tag};

use super::{Problems, tags};

const HEAVIEST: u32 = 1_000_000;

pub(super) fn check(spec: &TrafficRouteSpec, problems: &mut Problems) {
    tags::selectors(&spec.sources, "spec.sources", problems);
    tags::selectors(&spec.destinations, "spec.destinations", problems);
    for (position, selector) in spec.destinations.iter().enumerate() {
        if let Some(key) = selector.match_tags.keys().find(|key| *key != tag::SERVICE) {
            problems.add(
                format!("spec.destinations[{position}].match"),
                format!("{key} cannot select here: what is called is a service; spec.conf.split says which instances"),
            );
        }
    }
    let split = &spec.conf.split;
    problems.require(!split.is_empty(), "spec.conf.split", "at least one destination is required");
    problems.at_most(64, split.len(), "spec.conf.split");
    for (position, part) in split.iter().enumerate() {
        let field = format!("spec.conf.split[{position}]");
        problems.require(
            part.weight <= HEAVIEST,
            format!("{field}.weight"),
            format!("must be at most {HEAVIEST}"),
        );
        tags::check(&part.destination, true, &format!("{field}.destination"), problems);
        tags::require_service(&part.destination, &format!("{field}.destination"), problems);
    }
    problems.require(
        split.is_empty() || split.iter().any(|part| part.weight > 0),
        "spec.conf.split",
        "at least one weight must be greater than 0",
    );
}
