//! What replicas say of how their proxies follow a mesh. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ursa_crds::{MAX_LAGGARDS, Refusal};

/// How far the proxies that talk to a replica are behind with a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// The state of the resource that the replica tells its proxies.
    pub generation: u64,
    /// How many proxies do not follow it yet.
    pub proxies: u32,
    /// Names of some of them.
    pub laggards: BTreeSet<String>,
    /// What some of them refused of it.
    pub refusals: BTreeSet<Refusal>,
}

impl Behind {
    /// Keeps as many names as are told.
    pub(crate) fn truncate(&mut self) {
        while self.laggards.len() > MAX_LAGGARDS {
            self.laggards.pop_last();
        }
        while self.refusals.len() > MAX_LAGGARDS {
            self.refusals.pop_last();
        }
    }

    /// Of two replicas together: what both know, in the state that both tell.
    fn and(&self, other: &Self) -> Option<Self> {
        if self.generation != other.generation {
            return None;
        }
        let mut both = Self {
            generation: self.generation,
            proxies: self.proxies.saturating_add(other.proxies),
            laggards: self.laggards.union(&other.laggards).cloned().collect(),
            refusals: self.refusals.union(&other.refusals).cloned().collect(),
        };
        both.truncate();
        Some(both)
    }
}

/// Of several replicas together: of what one of them does not know, or knows another state, nothing is said. `None` of none.
pub(super) fn together<'a>(
    mut all: impl Iterator<Item = &'a BTreeMap<String, Behind>>,
) -> Option<BTreeMap<String, Behind>> {
    let mut merged = all.next()?.clone();
    for one in all {
        let both = |(uid, behind): (String, Behind)| Some((uid.clone(), behind.and(one.get(&uid)?)?));
        merged = merged.into_iter().filter_map(both).collect();
    }
    Some(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(generation: u64, laggards: &[&str]) -> BTreeMap<String, Behind> {
        let behind = Behind {
            generation,
            proxies: u32::try_from(laggards.len()).unwrap(),
            laggards: laggards.iter().map(|name| (*name).to_owned()).collect(),
            refusals: BTreeSet::new(),
        };
        [("uid".to_owned(), behind)].into()
    }

    #[test]
    fn what_one_replica_does_not_know_nobody_says() {
        assert_eq!(together([].into_iter()), None);
        let (a, b, old, none) = (said(2, &["x"]), said(2, &["y", "z"]), said(1, &[]), BTreeMap::new());
        assert_eq!(together([&a, &b].into_iter()), Some(said(2, &["x", "y", "z"])));
        assert_eq!(together([&a, &old].into_iter()), Some(BTreeMap::new()));
        assert_eq!(together([&a, &none].into_iter()), Some(BTreeMap::new()));
    }
}
