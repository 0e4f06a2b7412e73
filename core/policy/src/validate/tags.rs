//! Tags on inbounds and in selectors.

use ursa_crds::{GROUP, Protocol, Selector, Tags, tag};
use ursa_model::SpiffeId;

use super::Problems;
use super::meta::is_qualified;

/// Keys, and values that are exact or, where a selector allows it, `'*'`.
pub(super) fn check(tags: &Tags, wildcards: bool, field: &str, problems: &mut Problems) {
    for (key, value) in tags {
        problems.require(
            is_qualified(key),
            field,
            format!("the tag key {key:?} must be like a label key of Kubernetes"),
        );
        let any = wildcards && value == tag::ANY;
        problems.require(
            any || SpiffeId::is_segment(value),
            field,
            format!("the value {value:?} of tag {key} must be 1 to 253 of [A-Za-z0-9._-]"),
        );
        if key == tag::PROTOCOL && !any && Protocol::parse(value).is_none() {
            let names: Vec<_> = Protocol::NAMES.iter().map(|(name, _)| *name).collect();
            problems.add(field, format!("{key} must be one of {}", names.join(", ")));
        }
    }
}

/// Tags of a token.
pub(super) fn check_proven(tags: &Tags, field: &str, problems: &mut Problems) {
    problems.at_most(32, tags.len(), field);
    check(tags, false, field, problems);
    for key in tags.keys().filter(|key| is_ursas(key)) {
        problems.add(field, format!("{key} is no tag of a token: leave it out"));
    }
}

/// Whether a key is one of those that Ursa itself reads or sets.
pub(super) fn is_ursas(key: &str) -> bool {
    key.split_once('/').is_some_and(|(prefix, _)| prefix == GROUP)
}

/// The service must be there, and be one.
pub(super) fn require_service(tags: &Tags, field: &str, problems: &mut Problems) {
    let named = tags.get(tag::SERVICE).is_some_and(|service| service != tag::ANY);
    problems.require(named, field, format!("the tag {} is required", tag::SERVICE));
}

pub(super) fn selectors(selectors: &[Selector], field: &str, problems: &mut Problems) {
    problems.require(!selectors.is_empty(), field, "at least one selector is required");
    problems.at_most(64, selectors.len(), field);
    for (position, selector) in selectors.iter().enumerate() {
        let field = format!("{field}[{position}].match");
        problems.require(
            !selector.match_tags.is_empty(),
            &field,
            format!("an empty match selects nothing; to select everything, write {}: '*'", tag::SERVICE),
        );
        check(&selector.match_tags, true, &field, problems);
    }
}
