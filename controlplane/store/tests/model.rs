//! The store against a model: a map with versions, over random writes, refusals and restarts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeMap;

use common::{file, key, list, permission};
use proptest::prelude::*;
use ursa_store::{Outcome, Store, StoreError, Watch};

/// What a writer believes the version to be.
#[derive(Clone, Copy, Debug)]
enum Belief {
    None,
    Right,
    Wrong,
}

#[derive(Clone, Debug)]
enum Step {
    Put { name: u8, source: u8, label: u8, belief: Belief },
    Delete { name: u8, belief: Belief },
    Private(u8),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let belief = || prop_oneof![3 => Just(Belief::None), 2 => Just(Belief::Right), 1 => Just(Belief::Wrong)];
    let step = prop_oneof![
        6 => (0..4_u8, 0..3_u8, 0..2_u8, belief())
            .prop_map(|(name, source, label, belief)| Step::Put { name, source, label, belief }),
        3 => (0..4_u8, belief()).prop_map(|(name, belief)| Step::Delete { name, belief }),
        1 => any::<u8>().prop_map(Step::Private),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 0..25)
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    source: u8,
    label: u8,
    generation: u64,
    version: u64,
    uid: String,
}

#[derive(Default)]
struct Model {
    objects: BTreeMap<String, Entry>,
    revision: u64,
    private: Option<Vec<u8>>,
}

impl Model {
    fn expected(&self, name: &str, belief: Belief) -> Option<u64> {
        let version = self.objects.get(name).map_or(0, |entry| entry.version);
        match belief {
            Belief::None => None,
            Belief::Right => Some(version),
            Belief::Wrong => Some(version + 1),
        }
    }

    async fn put(
        &mut self,
        store: &Store,
        step: (&str, u8, u8),
        belief: Belief,
    ) -> Result<(), TestCaseError> {
        let (name, source, label) = step;
        let mut object = permission(name, &format!("s{source}"));
        object.meta.labels.insert("label".into(), label.to_string());
        let expected = self.expected(name, belief);
        let result = store.put(object, expected).await;
        if matches!(belief, Belief::Wrong) {
            prop_assert!(conflicts(&result));
            return Ok(());
        }
        let written = result.unwrap();
        let before = self.objects.get(name);
        let outcome = match before {
            None => Outcome::Created,
            Some(entry) if (entry.source, entry.label) == (source, label) => Outcome::Unchanged,
            Some(_) => Outcome::Updated,
        };
        prop_assert_eq!(written.outcome, outcome);
        if outcome != Outcome::Unchanged {
            self.revision += 1;
            let generation = before.map_or(1, |entry| entry.generation + u64::from(entry.source != source));
            let uid = before.map_or_else(|| written.object.meta.uid.clone(), |entry| entry.uid.clone());
            let entry = Entry { source, label, generation, version: self.revision, uid };
            self.objects.insert(name.to_owned(), entry);
        }
        Ok(())
    }

    async fn delete(&mut self, store: &Store, name: &str, belief: Belief) -> Result<(), TestCaseError> {
        let result = store.delete(&key(name), self.expected(name, belief)).await;
        match (belief, self.objects.contains_key(name)) {
            (Belief::Wrong, _) => prop_assert!(conflicts(&result)),
            (_, false) => prop_assert!(matches!(result, Err(StoreError::NotFound(_)))),
            (_, true) => {
                self.objects.remove(name);
                self.revision += 1;
                prop_assert_eq!(&result.unwrap().meta.name, name);
            }
        }
        Ok(())
    }

    fn check(&self, store: &Store) -> Result<(), TestCaseError> {
        let stored: BTreeMap<String, Entry> = list(store)
            .iter()
            .map(|object| {
                let ursa_crds::Spec::TrafficPermission(spec) = &object.spec else { panic!("a permission") };
                let source = spec.sources[0].match_tags[ursa_crds::tag::SERVICE]
                    .trim_start_matches('s')
                    .parse()
                    .unwrap();
                let label = object.meta.labels["label"].parse().unwrap();
                let (generation, version) = (object.meta.generation, object.meta.resource_version);
                let entry = Entry { source, label, generation, version, uid: object.meta.uid.clone() };
                (object.meta.name.clone(), entry)
            })
            .collect();
        prop_assert_eq!(&stored, &self.objects);
        prop_assert_eq!(store.revision(), self.revision);
        prop_assert_eq!(store.private("k"), self.private.clone());
        Ok(())
    }
}

fn conflicts<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Conflict { .. }))
}

/// Takes the changes that the watch owes, and applies them to what it knew.
async fn follow(
    watch: &mut Watch,
    known: &mut BTreeMap<String, u64>,
    from: u64,
    to: u64,
) -> Result<(), TestCaseError> {
    let mut revision = from;
    while revision < to {
        for change in watch.next().await.unwrap() {
            revision += 1;
            prop_assert_eq!(change.revision, revision);
            match change.object {
                Some(object) => known.insert(change.key.name, object.meta.resource_version),
                None => known.remove(&change.key.name),
            };
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_store_is_a_versioned_map_that_survives_and_a_watch_sees_exactly_its_changes(
        steps in steps(), in_memory in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (_folder, path) = file();
            let mut store = if in_memory { Store::memory() } else { Store::open(&path).unwrap() };
            let mut model = Model::default();
            let (_, mut watch) = store.watch();
            let mut known = BTreeMap::new();
            let mut followed = 0;
            for step in steps {
                match step {
                    Step::Put { name, source, label, belief } => {
                        model.put(&store, (&format!("p{name}"), source, label), belief).await?;
                    }
                    Step::Delete { name, belief } => model.delete(&store, &format!("p{name}"), belief).await?,
                    Step::Private(value) => {
                        store.private_put("k", vec![value]).await.unwrap();
                        model.private = Some(vec![value]);
                    }
                    Step::Reopen if in_memory => {}
                    Step::Reopen => {
                        let before = list(&store);
                        drop(store);
                        store = Store::open(&path).unwrap();
                        prop_assert_eq!(list(&store), before);
                        let (snapshot, again) = store.watch();
                        watch = again;
                        known = snapshot.iter().map(|o| (o.meta.name.clone(), o.meta.resource_version)).collect();
                        followed = store.revision();
                    }
                }
                model.check(&store)?;
                follow(&mut watch, &mut known, followed, model.revision).await?;
                followed = model.revision;
                let versions = model.objects.iter().map(|(name, entry)| (name.clone(), entry.version)).collect();
                prop_assert_eq!(&known, &versions);
            }
            Ok(())
        })?;
    }
}
