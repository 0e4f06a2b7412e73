//! A proxy that is listened for, what it was told last, and how much of it it is known to follow. Invariant: what says the
//! same is not told again.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use ursa_envoy::{Resource, ResourceKey, ResourceSet};
use ursa_model::ProxyModel;

use crate::SnapshotReceiver;
use crate::cause::{Causes, Changes, Suspect};
use crate::snapshot::Snapshot;

/// A proxy that is listened for.
#[derive(Debug)]
pub(crate) struct Subscriber {
    sender: watch::Sender<Option<Arc<Snapshot>>>,
    /// What it was told to do last, of which the newest snapshot has the resources.
    pub(crate) model: Option<ProxyModel>,
    /// The number of the newest snapshot that it has acknowledged whole.
    acknowledged: u64,
    /// The number of the first snapshot since somebody has watched.
    began: Option<u64>,
    /// Which changes were behind what an Envoy resource is now, since then; by the resource's place in memory.
    causes: BTreeMap<usize, (Arc<Resource>, Causes)>,
}

impl Subscriber {
    pub(crate) fn new() -> Self {
        Self {
            sender: watch::Sender::new(None),
            model: None,
            acknowledged: 0,
            began: None,
            causes: BTreeMap::new(),
        }
    }

    pub(crate) fn receiver(&self) -> SnapshotReceiver {
        self.sender.subscribe()
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// What it was told last.
    pub(crate) fn told(&self) -> Option<Arc<Snapshot>> {
        self.sender.borrow().clone()
    }

    /// The resources that it was told last.
    pub(crate) fn resources(&self) -> ResourceSet {
        self.sender.borrow().as_ref().map(|told| told.resources.as_ref().clone()).unwrap_or_default()
    }

    /// It has acknowledged a snapshot whole; 0: it has just come, and nobody knows.
    pub(crate) fn acknowledged(&mut self, sequence: u64) {
        self.acknowledged = sequence;
    }

    /// Every change up to this number of the index is followed by the proxy, but for what it refused. `considered`: up to
    /// where it is known what changes mean for it.
    pub(crate) fn enforced(&self, considered: u64) -> u64 {
        let newest = self.sender.borrow().as_ref().map(|snapshot| snapshot.sequence);
        if newest == Some(self.acknowledged) { considered } else { self.acknowledged }
    }

    /// Whether this may be behind an Envoy resource.
    pub(crate) fn is_cause(&self, suspect: &Suspect<'_>, key: &ResourceKey) -> bool {
        let told = self.sender.borrow();
        let resource = told.as_ref().and_then(|told| told.resources.get(key));
        if let Some((_, changes)) = resource.and_then(|resource| self.causes.get(&place(resource))) {
            return suspect.is_behind(key, changes);
        }
        let sequence = self.began.unwrap_or(u64::MAX);
        suspect.is_behind(key, &Changes { sequence, ..Changes::default() })
    }

    /// Nobody watches any more what is behind what it goes on with.
    pub(crate) fn leave_as_it_is(&mut self) {
        (self.model, self.began) = (None, None);
        self.causes.clear();
    }

    /// It is to get nothing, and to be told why; whether that is news.
    pub(crate) fn exclude(&mut self, sequence: u64, reason: &str) -> bool {
        self.model = None;
        let nothing = Snapshot {
            sequence,
            resources: Arc::default(),
            names: None,
            server_names: Arc::default(),
            identity: None,
            exclusion: Some(reason.to_owned()),
        };
        self.publish(nothing, &Causes::default())
    }

    /// `causes`: the changes that are new with this snapshot. Whether it says anything new.
    pub(crate) fn publish(&mut self, snapshot: Snapshot, causes: &Causes) -> bool {
        self.began.get_or_insert(snapshot.sequence);
        let current = self.told();
        if let Some(current) = &current {
            let mut differences = current.resources.differences(&snapshot.resources).peekable();
            if differences.peek().is_none()
                && current.identity == snapshot.identity
                && current.names == snapshot.names
                && current.exclusion == snapshot.exclusion
                && current.server_names == snapshot.server_names
            {
                return false;
            }
            for (before, after) in differences {
                if let Some(before) = before {
                    self.causes.remove(&place(before));
                }
                if let Some(after) = after {
                    self.causes.insert(place(after), (after.clone(), causes.clone()));
                }
            }
        }
        self.sender.send_replace(Some(Arc::new(snapshot)));
        true
    }
}

/// In memory: a resource's own while it is held.
fn place(resource: &Arc<Resource>) -> usize {
    Arc::as_ptr(resource).addr()
}
