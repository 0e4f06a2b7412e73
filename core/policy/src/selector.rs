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
    wanted.iter().all(|(key, value)| tags.get(key).is_some_and(|actual| value == tag::ANY || value == actual))
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
