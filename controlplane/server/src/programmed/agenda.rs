//! Which resources to look at, and when. Pure: the time is passed in.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;
use ursa_crds::ObjectKey;

/// When to look at a resource.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Due {
    pub(super) at: Instant,
    /// Since when it is not as it was told.
    pub(super) differs_since: Option<Instant>,
}

/// Resources to look at, found by key and in the order in which they are due.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    due: HashMap<ObjectKey, Due>,
    order: BTreeSet<(Instant, ObjectKey)>,
}

impl Agenda {
    /// Sets when to look at a resource.
    pub(super) fn set(&mut self, key: ObjectKey, due: Due) {
        if let Some(before) = self.due.insert(key.clone(), due) {
            self.order.remove(&(before.at, key.clone()));
        }
        self.order.insert((due.at, key));
    }

    /// Looks at a resource at this time at the latest.
    pub(super) fn bring_forward(&mut self, key: ObjectKey, at: Instant) {
        let known = self.due.get(&key);
        let differs_since = known.and_then(|due| due.differs_since);
        if known.is_none_or(|due| due.at > at) {
            self.set(key, Due { at, differs_since });
        }
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes out what is due next.
    pub(super) fn take_next(&mut self) -> Option<(ObjectKey, Due)> {
        let (_, key) = self.order.pop_first()?;
        let due = self.due.remove(&key)?;
        Some((key, due))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_is_due_once_and_in_order() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        let key = ObjectKey::mesh;
        agenda.set(key("late"), Due { at: at(3), differs_since: Some(now) });
        agenda.bring_forward(key("soon"), at(2));
        agenda.bring_forward(key("late"), at(1));
        agenda.bring_forward(key("late"), at(5));
        assert_eq!(agenda.next(), Some(at(1)));
        assert_eq!(agenda.take_next(), Some((key("late"), Due { at: at(1), differs_since: Some(now) })));
        assert_eq!(agenda.take_next(), Some((key("soon"), Due { at: at(2), differs_since: None })));
        assert_eq!((agenda.next(), agenda.take_next()), (None, None));
    }
}
