//! What the store holds, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;

use ursa_crds::{Kind, Object, ObjectKey};

use crate::kubernetes::Former;
use crate::shared::Outbounds;
use crate::watch::Watchers;

#[derive(Default)]
pub(crate) struct State {
    pub(crate) objects: BTreeMap<ObjectKey, Arc<Object>>,
    /// What was discovered: in memory only, and not for others to write.
    pub(crate) discovered: BTreeSet<ObjectKey>,
    pub(crate) private: BTreeMap<String, Vec<u8>>,
    /// What restored objects were before they were made anew, by the UIDs that they have now. On an API server only.
    pub(crate) former: BTreeMap<String, Former>,
    pub(crate) revision: u64,
    pub(crate) watchers: Watchers,
    pub(crate) outbounds: Outbounds,
    /// Told when a private value may be another one.
    pub(crate) private_changed: watch::Sender<()>,
}

impl State {
    /// Objects of a kind, in one mesh or in all.
    pub(crate) fn of<'a>(
        &'a self,
        kind: Kind,
        mesh: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        let first = ObjectKey {
            kind,
            mesh: mesh.unwrap_or_default().to_owned(),
            namespace: String::new(),
            name: String::new(),
        };
        self.objects
            .range(first..)
            .take_while(move |(key, _)| key.kind == kind && mesh.is_none_or(|mesh| key.mesh == mesh))
            .map(|(_, object)| object)
    }
}
