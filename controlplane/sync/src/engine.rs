//! One direction of the synchronisation, without I/O.
//!
//! The holder says at connect what it has (key → version). The owner sends the difference, at most one [`Delta`] at a
//! time; what changes meanwhile goes into the next, only in its last state. A removal is always said, never concluded
//! from absence, and a holder follows only an owner whose epoch it knows: it leaves the deltas of any other unanswered.

use std::collections::{BTreeMap, BTreeSet};

/// Entries of one delta at most; the rest goes into the next.
const LARGEST: usize = 500;

/// A change of what a holder is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta<K, B> {
    /// Numbers the deltas of one connection, from 1.
    pub sequence: u64,
    /// Objects as (key, version, body), ordered by key.
    pub upserts: Vec<(K, String, B)>,
    /// Objects that the owner no longer has, ordered.
    pub removals: Vec<K>,
}

/// The owner's half.
#[derive(Clone, Debug)]
pub struct Outgoing<K, B> {
    desired: BTreeMap<K, (String, B)>,
    held: BTreeMap<K, String>,
    pending: BTreeSet<K>,
    in_flight: Option<Delta<K, B>>,
    sequence: u64,
}

impl<K: Ord + Clone, B: Clone> Outgoing<K, B> {
    /// For a holder that has these versions, to be brought to these objects.
    pub fn new(held: BTreeMap<K, String>, desired: BTreeMap<K, (String, B)>) -> Self {
        let pending = held.keys().chain(desired.keys()).cloned().collect();
        let mut outgoing = Self { desired, held, pending, in_flight: None, sequence: 0 };
        outgoing.drop_unchanged();
        outgoing
    }

    /// Takes a change of the owner's objects; `None`: the object is gone.
    pub fn change(&mut self, key: K, object: Option<(String, B)>) {
        self.change_all([(key, object)]);
    }

    /// Takes several changes at once.
    pub fn change_all(&mut self, changes: impl IntoIterator<Item = (K, Option<(String, B)>)>) {
        for (key, object) in changes {
            match object {
                Some(object) => self.desired.insert(key.clone(), object),
                None => self.desired.remove(&key),
            };
            self.pending.insert(key);
        }
        self.drop_unchanged();
    }

    /// The holder has one more than was known: this version.
    pub fn holds(&mut self, key: K, version: String) {
        self.held.insert(key.clone(), version);
        self.pending.insert(key);
        self.drop_unchanged();
    }

    /// The next delta, unless one is on its way or there is nothing to say.
    pub fn next_delta(&mut self) -> Option<Delta<K, B>> {
        if self.in_flight.is_some() || self.pending.is_empty() {
            return None;
        }
        self.sequence += 1;
        let mut delta = Delta { sequence: self.sequence, upserts: Vec::new(), removals: Vec::new() };
        for _ in 0..LARGEST {
            let Some(key) = self.pending.pop_first() else { break };
            match self.desired.get(&key) {
                Some((version, body)) => delta.upserts.push((key, version.clone(), body.clone())),
                None => delta.removals.push(key),
            }
        }
        self.in_flight = Some(delta.clone());
        Some(delta)
    }

    /// The holder has stored a delta.
    pub fn acknowledged(&mut self, sequence: u64) {
        let Some(delta) = self.in_flight.take_if(|delta| delta.sequence == sequence) else { return };
        for (key, version, _) in delta.upserts {
            self.held.insert(key, version);
        }
        for key in delta.removals {
            self.held.remove(&key);
        }
        self.drop_unchanged();
    }

    /// Whether the holder has acknowledged everything.
    pub fn is_settled(&self) -> bool {
        self.in_flight.is_none() && self.pending.is_empty()
    }

    /// While a delta is on its way nobody knows what the holder has; what then turns out equal is dropped later.
    fn drop_unchanged(&mut self) {
        if self.in_flight.is_none() {
            let Self { pending, desired, held, .. } = self;
            pending.retain(|key| desired.get(key).map(|(version, _)| version) != held.get(key));
        }
    }
}

/// Whether a holder follows an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The owner is the one that the copies came from, or there are none yet.
    Known,
    /// It is another one (restored or empty) that no administrator has adopted: nothing changes on its word.
    Foreign,
}

/// The holder's half.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    epoch: Option<String>,
}

impl Incoming {
    /// Of a holder whose copies came from this epoch of the owner's store.
    pub fn new(epoch: Option<String>) -> Self {
        Self { epoch }
    }

    /// The owner says which epoch its store has, and whether an administrator has adopted it in place of any other.
    pub fn meet(&mut self, epoch: &str, adopted: bool) -> Verdict {
        match &self.epoch {
            Some(known) if known != epoch && !adopted => Verdict::Foreign,
            _ => {
                self.epoch = Some(epoch.to_owned());
                Verdict::Known
            }
        }
    }

    /// The epoch that the copies come from.
    pub fn epoch(&self) -> Option<&str> {
        self.epoch.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An owner and a holder, with the wire between them.
    #[derive(Clone, Debug, Default)]
    struct World {
        owner: BTreeMap<u8, (String, u32)>,
        epoch: u32,
        adopted: bool,
        writes: u32,
        copies: BTreeMap<u8, (String, u32)>,
        incoming: Incoming,
        link: Option<Link>,
    }

    #[derive(Clone, Debug)]
    struct Link {
        outgoing: Outgoing<u8, u32>,
        verdict: Verdict,
        down: Vec<Delta<u8, u32>>,
        up: Vec<u64>,
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(u8),
        Delete(u8),
        Connect,
        Disconnect,
        /// A delta arrives at the holder and is stored.
        Deliver,
        /// An acknowledgement arrives at the owner.
        Acknowledge,
        /// The owner's store is replaced by an empty one.
        Replace,
        Adopt,
    }

    impl World {
        fn step(&mut self, step: &Step) {
            match step {
                Step::Write(key) => {
                    self.writes += 1;
                    let object = (format!("v{}", self.writes), self.writes);
                    self.owner.insert(*key, object.clone());
                    self.tell(*key, Some(object));
                }
                Step::Delete(key) => {
                    self.owner.remove(key);
                    self.tell(*key, None);
                }
                Step::Connect => {
                    let held =
                        self.copies.iter().map(|(key, (version, _))| (*key, version.clone())).collect();
                    let outgoing = Outgoing::new(held, self.owner.clone());
                    let verdict = self.incoming.meet(&self.epoch.to_string(), self.adopted);
                    self.link = Some(Link { outgoing, verdict, down: Vec::new(), up: Vec::new() });
                }
                Step::Disconnect => self.link = None,
                Step::Deliver => self.deliver(),
                Step::Acknowledge => {
                    if let Some(link) = &mut self.link
                        && !link.up.is_empty()
                    {
                        link.outgoing.acknowledged(link.up.remove(0));
                    }
                }
                Step::Replace => {
                    self.link = None;
                    self.owner.clear();
                    self.epoch += 1;
                    self.adopted = false;
                }
                Step::Adopt => {
                    self.adopted = true;
                    // The owner ends its streams, so that holders meet it anew.
                    self.link = None;
                }
            }
            if let Some(link) = &mut self.link {
                link.down.extend(link.outgoing.next_delta());
            }
        }

        fn tell(&mut self, key: u8, object: Option<(String, u32)>) {
            if let Some(link) = &mut self.link {
                link.outgoing.change(key, object);
            }
        }

        fn deliver(&mut self) {
            let Some(link) = &mut self.link else { return };
            if link.down.is_empty() {
                return;
            }
            let delta = link.down.remove(0);
            if link.verdict == Verdict::Foreign {
                return;
            }
            link.up.push(delta.sequence);
            for (key, version, body) in delta.upserts {
                self.copies.insert(key, (version, body));
            }
            for key in delta.removals {
                self.copies.remove(&key);
            }
        }

        /// Lets everything arrive.
        fn settle(&mut self) {
            for _ in 0..1_000 {
                self.step(&Step::Deliver);
                self.step(&Step::Acknowledge);
                if self.link.as_ref().is_some_and(|link| link.outgoing.is_settled()) {
                    return;
                }
            }
            panic!("it never settles: {self:?}");
        }
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..6_u8).prop_map(Step::Write),
            2 => (0..6_u8).prop_map(Step::Delete),
            2 => Just(Step::Connect),
            1 => Just(Step::Disconnect),
            4 => Just(Step::Deliver),
            4 => Just(Step::Acknowledge),
            1 => Just(Step::Replace),
            1 => Just(Step::Adopt),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn after_a_heal_both_sides_are_equal(steps in steps()) {
            let mut world = World::default();
            steps.iter().for_each(|step| world.step(step));
            world.step(&Step::Adopt);
            world.step(&Step::Connect);
            world.settle();
            prop_assert_eq!(&world.copies, &world.owner);
        }

        #[test]
        fn only_the_word_of_a_known_owner_deletes_or_changes(steps in steps()) {
            let mut world = World::default();
            for step in &steps {
                let before = world.copies.clone();
                let foreign = world.link.as_ref().is_some_and(|link| link.verdict == Verdict::Foreign);
                let removals: Vec<u8> = match (&world.link, step) {
                    (Some(link), Step::Deliver) if link.verdict == Verdict::Known =>
                        link.down.first().map(|delta| delta.removals.clone()).unwrap_or_default(),
                    _ => Vec::new(),
                };
                world.step(step);
                prop_assert!(!foreign || world.copies == before, "{step:?} changed copies");
                for key in before.into_keys() {
                    prop_assert!(world.copies.contains_key(&key) || removals.contains(&key), "{step:?} deleted {key}");
                }
            }
        }

        #[test]
        fn a_replaced_owner_changes_nothing_until_it_is_adopted(keys in prop::collection::btree_set(0..6_u8, 1..6)) {
            let mut world = World::default();
            keys.iter().for_each(|key| world.step(&Step::Write(*key)));
            world.step(&Step::Connect);
            world.settle();
            let before = world.copies.clone();
            world.step(&Step::Replace);
            world.step(&Step::Write(7));
            world.step(&Step::Connect);
            world.step(&Step::Deliver);
            prop_assert!(!world.link.as_ref().unwrap().outgoing.is_settled(), "the owner must not think it is followed");
            prop_assert_eq!(&world.copies, &before);
            world.step(&Step::Adopt);
            world.step(&Step::Connect);
            world.settle();
            prop_assert_eq!(&world.copies, &world.owner);
        }

        #[test]
        fn a_second_connect_without_changes_sends_nothing(steps in steps()) {
            let mut world = World::default();
            steps.iter().for_each(|step| world.step(step));
            world.step(&Step::Adopt);
            world.step(&Step::Connect);
            world.settle();
            world.step(&Step::Connect);
            let link = world.link.as_ref().unwrap();
            prop_assert!(link.down.is_empty() && link.outgoing.is_settled());
        }
    }

    #[test]
    fn a_change_back_while_a_delta_is_on_its_way_is_not_lost() {
        let mut outgoing =
            Outgoing::new(BTreeMap::from([(1, "a".to_owned())]), BTreeMap::from([(1, ("a".to_owned(), 0))]));
        outgoing.change(1, Some(("b".into(), 0)));
        let first = outgoing.next_delta().unwrap();
        outgoing.change(1, Some(("a".into(), 0)));
        assert!(outgoing.next_delta().is_none());
        outgoing.acknowledged(first.sequence);
        assert_eq!(outgoing.next_delta().unwrap().upserts, [(1, "a".to_owned(), 0)]);
    }
}
