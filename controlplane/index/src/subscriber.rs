//! A proxy that is listened for, and what it was told last. Invariant: what says the same is not told again.

use std::sync::Arc;

use tokio::sync::watch;
use ursa_envoy::ResourceSet;
use ursa_model::ProxyModel;

use crate::SnapshotReceiver;
use crate::snapshot::Snapshot;

/// A proxy that is listened for.
#[derive(Debug)]
pub(crate) struct Subscriber {
    sender: watch::Sender<Option<Arc<Snapshot>>>,
    pub(crate) model: Option<(ProxyModel, ResourceSet)>,
}

impl Subscriber {
    pub(crate) fn new() -> Self {
        Self { sender: watch::Sender::new(None), model: None }
    }

    pub(crate) fn receiver(&self) -> SnapshotReceiver {
        self.sender.subscribe()
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// It is to get nothing, and to be told why.
    pub(crate) fn exclude(&mut self, sequence: u64, reason: &str) {
        self.model = None;
        self.publish(Snapshot {
            sequence,
            resources: Arc::default(),
            names: None,
            server_names: Arc::default(),
            identity: None,
            exclusion: Some(reason.to_owned()),
        });
    }

    pub(crate) fn publish(&self, snapshot: Snapshot) {
        self.sender.send_if_modified(|current| {
            if let Some(current) = current
                && current.identity == snapshot.identity
                && current.names == snapshot.names
                && current.exclusion == snapshot.exclusion
                && current.server_names == snapshot.server_names
                && same(&current.resources, &snapshot.resources)
            {
                return false;
            }
            *current = Some(Arc::new(snapshot));
            true
        });
    }
}

fn same(a: &ResourceSet, b: &ResourceSet) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|((a_key, a), (b_key, b))| a_key == b_key && a.version == b.version)
}
