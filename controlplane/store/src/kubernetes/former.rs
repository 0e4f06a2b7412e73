//! What restored objects were: an API server gives what is made anew another UID and another creation time.
//!
//! The control plane goes by the former ones: a zone's token is bound to the UID of its `Zone`, and of policies that are alike
//! the older wins. They are private values, which nobody writes but the control plane, and bound to the new UIDs, so that
//! they end with the objects. What others write or observe by UID (statuses, what zones enforce) goes by the new one.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ursa_crds::{Kind, Object};

use super::wire;
use crate::names::FORMER;
use crate::state::State;

/// Entries of one private value: a Secret holds 1 MiB.
const ENTRIES: usize = 4000;

/// What an object was before it was restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Former {
    created: Option<Timestamp>,
    /// Of a zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
}

impl Former {
    /// As a backup has it.
    pub(super) fn of(object: &Object) -> Self {
        let uid = (object.kind() == Kind::Zone).then(|| object.meta.uid.clone());
        Self { created: object.meta.created, uid }
    }
}

/// As private values: names and contents.
pub(super) fn to_private(all: &BTreeMap<String, Former>) -> Vec<(String, Vec<u8>)> {
    let entries: Vec<_> = all.iter().collect();
    let parts = entries.chunks(ENTRIES).enumerate();
    parts
        .map(|(number, part)| {
            let part: BTreeMap<_, _> = part.iter().copied().collect();
            (format!("{FORMER}{number}"), serde_json::to_vec(&part).expect("texts serialize"))
        })
        .collect()
}

impl State {
    /// Takes a private value, whoever wrote it.
    pub(super) fn take_private(&mut self, name: String, value: Vec<u8>) {
        if name.starts_with(FORMER) {
            match serde_json::from_slice::<BTreeMap<String, Former>>(&value) {
                Ok(former) => self.take_former(former),
                Err(error) => tracing::warn!(name, %error, "what restored objects were cannot be read"),
            }
        }
        self.private.insert(name, value);
        self.private_changed.send_replace(());
    }

    fn take_former(&mut self, former: BTreeMap<String, Former>) {
        self.former.extend(former);
        let objects: Vec<Arc<Object>> = self.objects.values().cloned().collect();
        for known in objects {
            let mut object = Object::clone(&known);
            self.as_it_was(&mut object);
            if object != *known {
                self.change(object.key(), Some(Arc::new(object)));
            }
        }
    }

    /// Gives a restored object what it had before.
    pub(super) fn as_it_was(&self, object: &mut Object) {
        let Some(Former { created, uid }) = self.former.get(&object.meta.uid) else { return };
        object.meta.created = *created;
        if let Some(uid) = uid {
            object.meta.uid.clone_from(uid);
        }
        object.meta.resource_version = wire::version(object);
    }

    /// The UID that the API server knows an object by.
    pub(super) fn stored_uid(&self, object: &Object) -> String {
        let own = &object.meta.uid;
        let known = self.former.iter().find(|(_, former)| former.uid.as_ref() == Some(own));
        known.map_or(own, |(uid, _)| uid).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str, uid: &str, created: &str) -> Object {
        let mut zone = ursa_crds::decode(
            format!("apiVersion: ursamesh.io/v1alpha1\nkind: Zone\nmetadata: {{name: {name}}}\n").as_bytes(),
        )
        .unwrap();
        zone.meta.uid = uid.into();
        zone.meta.created = Some(created.parse().unwrap());
        zone.meta.resource_version = wire::version(&zone);
        zone
    }

    #[test]
    fn a_restored_zone_is_the_former_one_for_as_long_as_it_is_there() {
        let backup = zone("east", "former", "2026-01-01T00:00:00Z");
        let made = zone("east", "new", "2026-02-01T00:00:00Z");
        let mut state = State::default();
        state.change(made.key(), Some(Arc::new(made.clone())));
        let former = BTreeMap::from([("new".to_owned(), Former::of(&backup))]);
        for (name, value) in to_private(&former) {
            state.take_private(name, value);
        }
        let shown = state.objects[&made.key()].clone();
        assert_eq!((&shown.meta.uid, shown.meta.created), (&backup.meta.uid, backup.meta.created));
        assert_eq!(shown.meta.resource_version, wire::version(&shown));
        assert_eq!(state.stored_uid(&shown), "new");
        // As a watch tells it again, and as one of the same name that somebody makes after it was deleted.
        let mut again = made.clone();
        state.as_it_was(&mut again);
        assert_eq!(again, *shown);
        let mut later = zone("east", "later", "2026-03-01T00:00:00Z");
        state.as_it_was(&mut later);
        assert_eq!(later.meta.uid, "later", "tokens of the former zone are worthless");
    }

    #[test]
    fn a_policy_keeps_its_age_and_not_its_uid() {
        let mut policy = zone("east", "former", "2026-01-01T00:00:00Z");
        policy.spec = ursa_crds::Spec::Mesh(ursa_crds::MeshSpec::default());
        let former = Former::of(&policy);
        assert_eq!(former, Former { created: policy.meta.created, uid: None });
    }

    #[test]
    fn many_objects_need_several_secrets() {
        let of = Former { created: None, uid: None };
        let all: BTreeMap<String, Former> = (0..=ENTRIES * 2).map(|n| (n.to_string(), of.clone())).collect();
        let parts = to_private(&all);
        assert_eq!(parts.len(), 3);
        let mut state = State::default();
        for (name, value) in parts {
            state.take_private(name, value);
        }
        assert_eq!(state.former, all);
    }
}
