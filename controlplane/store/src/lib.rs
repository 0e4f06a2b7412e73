//! The embedded store: every object in memory for reads, and durable in one file.
//!
//! One thread writes. Writes that wait at the same time share a transaction, because making a transaction durable is
//! what costs. Invariant: what a reader or a watcher sees is durable already; a write that changes nothing is no write.

mod batch;
mod disk;
mod error;
mod kubernetes;
pub mod names;
mod record;
mod shared;
mod snapshot;
mod state;
mod watch;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use tokio::sync::{mpsc, oneshot, watch as signal};
use ursa_crds::{Kind, Object, ObjectKey, schema};
use uuid::Uuid;

pub use error::{OpenError, StoreError};
pub use kubernetes::{KubernetesConfig, KubernetesError, api, read_stored};
pub use snapshot::{Snapshot, SnapshotError, checksum};
pub use watch::{Change, Watch};

use disk::{Contents, Disk};
use kubernetes::Opened;
use state::State;
use writer::{Reply, Request, Restore};

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was none under the key.
    Created,
    /// It replaced another state.
    Updated,
    /// It said what was there already; nothing was written.
    Unchanged,
}

/// The result of [`Store::put`].
#[derive(Clone, Debug)]
pub struct Written {
    /// As it is stored now.
    pub object: Arc<Object>,
    /// What the write did.
    pub outcome: Outcome,
}

/// The store; cheap to clone, all clones are one. It is closed when the last is dropped.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    state: Arc<RwLock<State>>,
    epoch: String,
    writer: Option<Writer>,
}

/// Where writes go.
enum Writer {
    /// A thread, for the file and for memory.
    Thread(Sender<Request>, JoinHandle<()>),
    /// A task, for an API server.
    Task(mpsc::UnboundedSender<Request>),
}

impl fmt::Debug for Store {
    /// Without what it holds: private values never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("epoch", &self.0.epoch).field("revision", &self.revision()).finish()
    }
}

impl Drop for Inner {
    /// The file is free when the last handle is gone.
    fn drop(&mut self) {
        if let Some(Writer::Thread(requests, writer)) = self.writer.take() {
            drop(requests);
            // An answer can end the task that held the last handle, on the writer's own thread.
            if writer.thread().id() != thread::current().id() {
                let _ = writer.join();
            }
        }
    }
}

impl Store {
    /// In memory only, for tests.
    pub fn memory() -> Self {
        Self::start(Contents { epoch: Uuid::new_v4().to_string(), ..Contents::default() }, None)
    }

    /// In this file, which is made if it is not there (mode 0600). Reads it whole, and checks all of it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_as(path, schema::CURRENT)
    }

    /// The same as a version that knows no more than this schema: it refuses a file of a later one, and what came later it
    /// does not keep.
    pub fn open_as(path: &Path, schema: u32) -> Result<Self, OpenError> {
        let (disk, contents) = Disk::open(path, schema)?;
        Ok(Self::start(contents, Some(disk)))
    }

    /// On the API server of the cluster that the environment names (a pod's own account, or kubeconfig).
    pub async fn kubernetes(config: KubernetesConfig) -> Result<Self, KubernetesError> {
        let Opened { state, epoch, requests } = kubernetes::open(config).await?;
        Ok(Self(Arc::new(Inner { state, epoch, writer: Some(Writer::Task(requests)) })))
    }

    fn start(contents: Contents, disk: Option<Disk>) -> Self {
        let Contents { epoch, revision, objects, private, outbounds } = contents;
        let state = State { objects, private, revision, outbounds, ..State::default() };
        let state = Arc::new(RwLock::new(state));
        let (requests, thread) = writer::start(state.clone(), disk);
        Self(Arc::new(Inner { state, epoch, writer: Some(Writer::Thread(requests, thread)) }))
    }

    fn read<T>(&self, get: impl FnOnce(&State) -> T) -> T {
        get(&self.0.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The object of this key.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Object>> {
        self.read(|state| state.objects.get(key).cloned())
    }

    /// All objects of a kind, ordered by key.
    pub fn list(&self, kind: Kind) -> Vec<Arc<Object>> {
        self.read(|state| state.of(kind, None).cloned().collect())
    }

    /// All objects of a kind in a mesh, ordered by key.
    pub fn list_in_mesh(&self, kind: Kind, mesh: &str) -> Vec<Arc<Object>> {
        self.read(|state| state.of(kind, Some(mesh)).cloned().collect())
    }

    /// Counts changes since the store was made.
    pub fn revision(&self) -> u64 {
        self.read(|state| state.revision)
    }

    /// A random name that the store got when it was made; a store restored from a backup has the same.
    pub fn epoch(&self) -> &str {
        &self.0.epoch
    }

    /// Stores an object, and sets what the server sets: uid, creation time, generation (raised when the specification
    /// changes), resource version. With `expected`, only if that is the stored resource version; 0 stands for an object
    /// that does not exist.
    pub async fn put(&self, object: Object, expected: Option<u64>) -> Result<Written, StoreError> {
        self.write(|reply| Request::Put { object: Box::new(object), expected, reply }).await
    }

    /// Stores a copy of an object that another store owns: uid, creation time and generation stay as they are there.
    pub async fn put_copy(&self, object: Object) -> Result<Written, StoreError> {
        self.write(|reply| Request::PutCopy { object: Box::new(object), reply }).await
    }

    /// Deletes an object and returns its last state. With `expected`, only if that is the stored resource version.
    pub async fn delete(&self, key: &ObjectKey, expected: Option<u64>) -> Result<Arc<Object>, StoreError> {
        self.write(|reply| Request::Delete { key: key.clone(), expected, reply }).await
    }

    /// Takes what was discovered (`None`: it is gone): it is kept in memory only, and shown like what is stored. Whoever
    /// discovers it says it anew after each start.
    pub fn discovered(&self, changes: Vec<(ObjectKey, Option<Object>)>) {
        let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
        for (key, object) in changes {
            let object = object.map(|mut object| {
                object.meta.resource_version = state.revision + 1;
                Arc::new(object)
            });
            if object.is_some() {
                state.discovered.insert(key.clone());
            } else {
                state.discovered.remove(&key);
            }
            state.change(key, object);
        }
    }

    /// Whether an object was discovered: nobody stored it.
    pub fn is_discovered(&self, key: &ObjectKey) -> bool {
        self.read(|state| state.discovered.contains(key))
    }

    /// Every object now, and every change from now on.
    pub fn watch(&self) -> (Vec<Arc<Object>>, Watch) {
        let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
        let objects = state.objects.values().cloned().collect();
        (objects, state.watchers.subscribe())
    }

    /// A value that no object shows: keys of authorities and signers.
    pub fn private(&self, name: &str) -> Option<Vec<u8>> {
        self.read(|state| state.private.get(name).cloned())
    }

    /// Changes whenever a private value may be another one, whoever wrote it.
    pub fn private_changes(&self) -> signal::Receiver<()> {
        self.read(|state| state.private_changed.subscribe())
    }

    /// Stores a private value.
    pub async fn private_put(&self, name: &str, value: Vec<u8>) -> Result<(), StoreError> {
        self.private_write(name, value, true).await.map(drop)
    }

    /// Stores a private value unless there is one, and returns the one that is stored.
    pub async fn private_get_or_insert(&self, name: &str, value: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        self.private_write(name, value, false).await
    }

    async fn private_write(&self, name: &str, value: Vec<u8>, replace: bool) -> Result<Vec<u8>, StoreError> {
        self.write(|reply| Request::Private { name: name.to_owned(), value, replace, reply }).await
    }

    /// Whether objects can be in namespaces: the store is on an API server.
    pub fn has_namespaces(&self) -> bool {
        matches!(self.0.writer, Some(Writer::Task(_)))
    }

    /// What another store needs to be the same for a global control plane's users and zones; the older objects of a kind
    /// first. What was discovered is not in it.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let authority = self.write(|reply| Request::Authority { reply }).await?;
        let (mut objects, private) = self.read(|state| {
            let objects = state.objects.iter().filter(|(key, _)| Snapshot::includes(key.kind));
            let objects = objects.filter(|(key, _)| !state.discovered.contains(key));
            let private = state.private.iter().filter(|(name, _)| !names::is_of_the_store(name));
            let private = private.map(|(name, value)| (name.clone(), value.clone()));
            (
                objects.map(|(_, object)| Object::clone(object)).collect::<Vec<_>>(),
                private.collect::<Vec<_>>(),
            )
        });
        objects.sort_by_key(|object| (object.kind(), object.meta.created, object.key()));
        let text = |(name, value): (String, Vec<u8>)| match String::from_utf8(value) {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(StoreError::Refused(format!("the private value {name} is no text"))),
        };
        let private = private.into_iter().map(text).collect::<Result<_, _>>()?;
        Ok(Snapshot { objects, private, authority })
    }

    /// Makes the store the same as the one of the snapshot. `removals`: what it holds besides; `private`: further private
    /// values. In a file all of it becomes durable at once. On an API server one comes after the other, the key of tokens
    /// last; what was left half-way is finished by doing it again.
    ///
    /// UIDs, creation times and generations stay. On an API server generations, and UIDs but those of zones, are new.
    pub async fn restore(
        &self,
        snapshot: Snapshot,
        removals: Vec<ObjectKey>,
        private: BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        let restore = Box::new(Restore { snapshot, removals, private });
        self.write(|reply| Request::Restore { restore, reply }).await
    }

    async fn write<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, StoreError> {
        let (reply, receiver) = oneshot::channel();
        // A failed send drops the reply's sender, which is a closed store below.
        match &self.0.writer {
            Some(Writer::Thread(requests, _)) => drop(requests.send(request(reply))),
            Some(Writer::Task(requests)) => drop(requests.send(request(reply))),
            None => {}
        }
        receiver.await.unwrap_or(Err(StoreError::Closed))
    }
}
