//! A proxy that is listened for, what it was told last, and how much of it it is known to follow. Invariant: what says the
//! same is not told again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;
use ursa_envoy::{ResourceKey, ResourceSet};
use ursa_model::ProxyModel;

use crate::SnapshotReceiver;
use crate::snapshot::Snapshot;

/// A proxy that is listened for.
#[derive(Debug)]
pub(crate) struct Subscriber {
    sender: watch::Sender<Option<Arc<Snapshot>>>,
    pub(crate) model: Option<(ProxyModel, ResourceSet)>,
    /// The index's number when its snapshot was worked out last.
    considered: u64,
    /// The number of the newest snapshot that it has acknowledged whole.
    acknowledged: u64,
    /// Which changes (UIDs of resources) were behind what an Envoy resource is now, since somebody has watched.
    causes: BTreeMap<ResourceKey, BTreeSet<String>>,
}

impl Subscriber {
    pub(crate) fn new() -> Self {
        Self {
            sender: watch::Sender::new(None),
            model: None,
            considered: 0,
            acknowledged: 0,
            causes: BTreeMap::new(),
        }
    }

    pub(crate) fn receiver(&self) -> SnapshotReceiver {
        self.sender.subscribe()
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// It has acknowledged a snapshot whole; 0: it has just come, and nobody knows.
    pub(crate) fn acknowledged(&mut self, sequence: u64) {
        self.acknowledged = sequence;
    }

    /// Every change up to this number of the index is followed by the proxy, but for what it refused.
    pub(crate) fn enforced(&self) -> u64 {
        let newest = self.sender.borrow().as_ref().map(|snapshot| snapshot.sequence);
        if newest == Some(self.acknowledged) { self.considered } else { self.acknowledged }
    }

    /// Whether a change may be behind an Envoy resource.
    pub(crate) fn is_cause(&self, uid: &str, key: &ResourceKey) -> bool {
        self.causes.get(key).is_none_or(|causes| causes.contains(uid))
    }

    /// It is to get nothing, and to be told why.
    pub(crate) fn exclude(&mut self, sequence: u64, reason: &str) {
        self.model = None;
        let nothing = Snapshot {
            sequence,
            resources: Arc::default(),
            names: None,
            server_names: Arc::default(),
            identity: None,
            exclusion: Some(reason.to_owned()),
        };
        self.publish(nothing, &BTreeSet::new());
    }

    /// `causes`: the changes that are new with this snapshot.
    pub(crate) fn publish(&mut self, snapshot: Snapshot, causes: &BTreeSet<String>) {
        self.considered = snapshot.sequence;
        let current = self.sender.borrow().clone();
        if let Some(current) = &current
            && current.identity == snapshot.identity
            && current.names == snapshot.names
            && current.exclusion == snapshot.exclusion
            && current.server_names == snapshot.server_names
            && same(&current.resources, &snapshot.resources)
        {
            return;
        }
        self.causes.retain(|key, _| snapshot.resources.contains_key(key));
        for (key, resource) in current.iter().flat_map(|_| snapshot.resources.iter()) {
            let before = current.as_ref().and_then(|current| current.resources.get(key));
            if before.is_none_or(|before| before.version != resource.version) {
                self.causes.insert(key.clone(), causes.clone());
            }
        }
        self.sender.send_replace(Some(Arc::new(snapshot)));
    }
}

fn same(a: &ResourceSet, b: &ResourceSet) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|((a_key, a), (b_key, b))| a_key == b_key && a.version == b.version)
}
