//! The one thread that writes. Invariant: durable first, then visible to readers and watchers, then answered.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use ursa_crds::{Object, ObjectKey, schema};

use crate::Written;
use crate::batch::Batch;
use crate::disk::{Disk, Entry};
use crate::error::StoreError;
use crate::record;
use crate::snapshot::Snapshot;
use crate::state::State;

/// Writes that share a transaction at most.
const BATCH: usize = 256;

/// Where the result of a write goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A write that waits for its turn.
pub(crate) enum Request {
    Put {
        object: Box<Object>,
        expected: Option<u64>,
        reply: Reply<Written>,
    },
    PutCopy {
        object: Box<Object>,
        reply: Reply<Written>,
    },
    Delete {
        key: ObjectKey,
        expected: Option<u64>,
        reply: Reply<Arc<Object>>,
    },
    Private {
        name: String,
        value: Vec<u8>,
        replace: bool,
        reply: Reply<Vec<u8>>,
    },
    Restore {
        restore: Box<Restore>,
        reply: Reply<()>,
    },
    /// The data of the Secret with the operator's authority; empty where there is none.
    Authority {
        reply: Reply<BTreeMap<String, String>>,
    },
}

/// What makes a store the same as the one that a snapshot was taken of.
pub(crate) struct Restore {
    pub(crate) snapshot: Snapshot,
    /// What is there by itself, and was not in the other.
    pub(crate) removals: Vec<ObjectKey>,
    /// Further private values.
    pub(crate) private: BTreeMap<String, String>,
}

/// Starts the thread; it ends when the sender is dropped.
pub(crate) fn start(state: Arc<RwLock<State>>, disk: Option<Disk>) -> (Sender<Request>, JoinHandle<()>) {
    let (sender, receiver) = channel();
    let thread = std::thread::Builder::new()
        .name("store".into())
        .spawn(move || run(&state, disk.as_ref(), &receiver))
        .expect("a process that starts can start a thread");
    (sender, thread)
}

fn run(state: &RwLock<State>, disk: Option<&Disk>, requests: &Receiver<Request>) {
    while let Ok(first) = requests.recv() {
        let mut batch = Batch::new(state);
        batch.take(first);
        for request in requests.try_iter().take(BATCH - 1) {
            batch.take(request);
        }
        finish(batch, state, disk);
    }
}

/// Makes a write that no disk keeps.
pub(crate) fn in_memory(state: &RwLock<State>, request: Request) {
    let mut batch = Batch::new(state);
    batch.take(request);
    finish(batch, state, None);
}

fn finish(batch: Batch<'_>, state: &RwLock<State>, disk: Option<&Disk>) {
    let failure = disk.and_then(|disk| save(&batch, disk).err());
    let Batch { state: _, revision, objects, private, changes, answers } = batch;
    if let Some(reason) = &failure {
        tracing::error!(error = reason, writes = answers.len(), "the store cannot write");
    } else {
        let mut state = state.write().unwrap_or_else(PoisonError::into_inner);
        state.revision = revision.max(state.revision);
        for (key, object) in objects {
            match object {
                Some(object) => state.objects.insert(key, object),
                None => state.objects.remove(&key),
            };
        }
        if !private.is_empty() {
            state.private.extend(private);
            state.private_changed.send_replace(());
        }
        for change in &changes {
            state.watchers.tell(change);
        }
    }
    let failure = failure.map(StoreError::Disk);
    for answer in answers {
        answer(failure.clone());
    }
}

fn save(batch: &Batch<'_>, disk: &Disk) -> Result<(), String> {
    if batch.objects.is_empty() && batch.private.is_empty() {
        return Ok(());
    }
    let entry = |(key, object): (&ObjectKey, &Option<Arc<Object>>)| -> Entry {
        (record::name(key), object.as_deref().map(|object| record::encode(object, disk.schema)))
    };
    let kept = batch.objects.iter().filter(|(key, _)| schema::knows(key.kind, disk.schema));
    let objects: Vec<Entry> = kept.map(entry).collect();
    let private: Vec<Entry> =
        batch.private.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
    disk.write(&objects, &private, batch.revision).map_err(|error| error.to_string())
}
