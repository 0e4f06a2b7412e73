//! Watches: each change once, in the order in which it became durable.

use std::sync::Arc;

use tokio::sync::mpsc;
use ursa_crds::{Object, ObjectKey};

/// A change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which object.
    pub key: ObjectKey,
    /// Its new state; `None`: deleted.
    pub object: Option<Arc<Object>>,
    /// The store's revision of the change.
    pub revision: u64,
}

/// Changes since the watch began.
#[derive(Debug)]
pub struct Watch(mpsc::UnboundedReceiver<Change>);

impl Watch {
    /// Waits for a change and returns all that are there; `None` when the store has ended.
    pub async fn next(&mut self) -> Option<Vec<Change>> {
        let mut changes = vec![self.0.recv().await?];
        while let Ok(change) = self.0.try_recv() {
            changes.push(change);
        }
        Some(changes)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Watchers(Vec<mpsc::UnboundedSender<Change>>);

impl Watchers {
    pub(crate) fn subscribe(&mut self) -> Watch {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.0.push(sender);
        Watch(receiver)
    }

    pub(crate) fn tell(&mut self, change: &Change) {
        self.0.retain(|watcher| watcher.send(change.clone()).is_ok());
    }
}
