//! Which policy wins where only one can: the most exact destination, then the most exact source, then the oldest, then
//! the first by name.

use std::cmp::Reverse;

use jiff::Timestamp;
use ursa_crds::{Object, Selector, Tags};

use crate::selector::{Rank, best, governs};

/// The better of two policies is the greater.
pub(crate) type Standing<'a> = (Rank, Rank, Reverse<Option<Timestamp>>, Reverse<(&'a str, &'a str)>);

/// How a policy stands for traffic between these tag sets; `None` if it does not match.
pub(crate) fn standing<'a>(
    policy: &'a Object,
    (sources, destinations): (&[Selector], &[Selector]),
    source: &[Tags],
    destination: &Tags,
) -> Option<Standing<'a>> {
    let to = best(destinations, std::iter::once(destination))?;
    let from = best(sources, source.iter().filter(|tags| governs(policy, tags)))?;
    let meta = &policy.meta;
    Some((to, from, Reverse(meta.created), Reverse((&meta.name, &meta.namespace))))
}
