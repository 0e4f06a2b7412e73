//! The presence of a mesh's proxies, found by name and by when it next changes by itself.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use crate::presence::Presence;

#[derive(Debug, Default)]
pub(crate) struct Presences {
    all: BTreeMap<String, Presence>,
    /// Those that have a deadline.
    deadlines: BTreeSet<(Instant, String)>,
}

impl Presences {
    pub(crate) fn get(&self, proxy: &str) -> Option<&Presence> {
        self.all.get(proxy)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Changes that of a proxy, if it has one or `new` makes it; whether it is another one now.
    pub(crate) fn change(
        &mut self,
        proxy: &str,
        new: Option<Presence>,
        change: impl FnOnce(&mut Presence),
    ) -> bool {
        let before = self.all.get(proxy).cloned();
        let Some(mut presence) = before.clone().or(new) else { return false };
        change(&mut presence);
        let deadline = presence.deadline();
        let changed = before.as_ref() != Some(&presence);
        if let Some(at) = before.and_then(|before| before.deadline()).filter(|at| Some(*at) != deadline) {
            self.deadlines.remove(&(at, proxy.to_owned()));
        }
        if let Some(at) = deadline {
            self.deadlines.insert((at, proxy.to_owned()));
        }
        if changed {
            self.all.insert(proxy.to_owned(), presence);
        }
        changed
    }

    pub(crate) fn remove(&mut self, proxy: &str) {
        if let Some(at) = self.all.remove(proxy).and_then(|presence| presence.deadline()) {
            self.deadlines.remove(&(at, proxy.to_owned()));
        }
    }

    /// When one next changes by itself.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The proxies of which the time that has passed changed something.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<String> {
        let mut changed = Vec::new();
        while let Some((at, _)) = self.deadlines.first()
            && *at <= now
            && let Some((_, proxy)) = self.deadlines.pop_first()
        {
            if self.all.get_mut(&proxy).is_some_and(|presence| presence.expire(now)) {
                changed.push(proxy);
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::LOST_AFTER;

    #[test]
    fn only_those_whose_time_has_come_are_looked_at() {
        let (mut all, start) = (Presences::default(), Instant::now());
        for (proxy, after) in [("a", 0), ("b", 1), ("c", 2)] {
            let lost = start + LOST_AFTER * after;
            assert!(all.change(proxy, Some(Presence::new(start)), |presence| {
                presence.connected();
                presence.disconnected(lost);
            }));
        }
        assert_eq!(all.deadline(), Some(start + LOST_AFTER));
        assert!(all.expire(start).is_empty());
        assert!(all.change("b", None, Presence::connected));
        assert_eq!(all.expire(start + LOST_AFTER * 2), ["a"]);
        assert_eq!(all.deadline(), Some(start + LOST_AFTER * 3));
        all.remove("c");
        assert_eq!(all.deadline(), None);
        assert!(!all.change("c", None, Presence::connected), "it is gone");
    }
}
