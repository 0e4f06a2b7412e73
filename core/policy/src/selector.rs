//! Selectors: what they match and how exact they are.

use ursa_crds::{Object, Selector, Tags, tag};

/// How exact a selector is: first the number of exact tags, then the number of `'*'`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    exact: usize,
    any: usize,
}

/// Whether every wanted tag is there; an empty set of wanted tags matches nothing.
pub(crate) fn matches(wanted: &Tags, tags: &Tags) -> bool {
    !wanted.is_empty() && has(wanted, tags)
}

/// Whether every wanted tag is there.
pub(crate) fn has(wanted: &Tags, tags: &Tags) -> bool {
    all_are(wanted, |key| tags.get(key).map(String::as_str))
}

/// Whether every wanted tag is there, of what a zone has, whose tags do not say the zone.
pub fn has_in_zone(wanted: &Tags, zone: &str, tags: &Tags) -> bool {
    all_are(wanted, |key| if key == tag::ZONE { Some(zone) } else { tags.get(key).map(String::as_str) })
}

fn all_are<'a>(wanted: &Tags, actual: impl Fn(&str) -> Option<&'a str>) -> bool {
    let is = |(key, value): (&String, &String)| {
        actual(key).is_some_and(|actual| value == tag::ANY || value == actual)
    };
    wanted.iter().all(is)
}

/// How exact the best of the selectors is that match one of the tag sets; `None` if none does.
pub(crate) fn best<'a>(
    selectors: &[Selector],
    tag_sets: impl Iterator<Item = &'a Tags> + Clone,
) -> Option<Rank> {
    let matching = selectors.iter().filter(|s| tag_sets.clone().any(|tags| matches(&s.match_tags, tags)));
    matching.map(|selector| rank(&selector.match_tags)).max()
}

fn rank(wanted: &Tags) -> Rank {
    let any = wanted.values().filter(|value| *value == tag::ANY).count();
    Rank { exact: wanted.len() - any, any }
}

/// Whether a policy may decide for a workload with these tags: one in a namespace of its users only for workloads of that
/// namespace. (Users cannot set the tag.)
pub(crate) fn governs(policy: &Object, tags: &Tags) -> bool {
    let namespace = &policy.meta.namespace;
    namespace.is_empty() || tags.get(tag::NAMESPACE) == Some(namespace)
}
