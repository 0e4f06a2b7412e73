//! Watches: the state in memory follows the API server, whoever writes there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DynamicObject};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::watch;
use tokio::task::JoinSet;
use ursa_crds::{KINDS, Kind, Object, ObjectKey, Problem};

use super::wire::{PRIVATE_TYPE, SECRET_TYPE};
use super::{Cluster, KubernetesError, is_there, wire};
use crate::state::State;
use crate::watch::Change;

/// How far the watches are.
#[derive(Clone)]
pub(super) struct Views {
    known: Arc<Mutex<Known>>,
    /// Plurals of what is not listed yet, with the last error.
    missing: Arc<watch::Sender<BTreeMap<&'static str, String>>>,
}

#[derive(Default)]
struct Known {
    /// What was seen since a watch of the kind began to list, so that the rest is known to be gone at its end.
    listed: BTreeMap<Kind, HashSet<ObjectKey>>,
    /// Namespace (empty: none) and name on the API server.
    places: HashMap<ObjectKey, Place>,
}

/// Where an object is on the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Place {
    fn of(stored: &DynamicObject) -> Self {
        Self {
            namespace: stored.metadata.namespace.clone().unwrap_or_default(),
            name: stored.metadata.name.clone().unwrap_or_default(),
        }
    }
}

impl Default for Views {
    fn default() -> Self {
        let mut missing: BTreeMap<_, _> = KINDS
            .iter()
            .filter(|info| is_there(info.kind))
            .map(|info| (info.plural, String::new()))
            .collect();
        missing.insert(PRIVATE, String::new());
        Self { known: Arc::default(), missing: Arc::new(watch::Sender::new(missing)) }
    }
}

/// What private values are called where a kind's plural is expected.
const PRIVATE: &str = "private values";

impl Views {
    /// Waits until everything has been listed once.
    pub(super) async fn settled(&self) {
        let mut missing = self.missing.subscribe();
        // The sender is in `self`.
        let _ = missing.wait_for(BTreeMap::is_empty).await;
    }

    /// What is missing after this time.
    pub(super) fn unsettled(&self, waited: Duration) -> KubernetesError {
        let missing = self.missing.borrow().clone();
        let reason = missing.values().find(|reason| !reason.is_empty()).cloned();
        KubernetesError::Unsettled {
            missing: missing.into_keys().collect::<Vec<_>>().join(", "),
            seconds: waited.as_secs(),
            reason: reason.unwrap_or_else(|| "is it reachable, and are Ursa's definitions installed?".into()),
        }
    }

    fn listed(&self, plural: &'static str) {
        self.missing.send_if_modified(|missing| missing.remove(plural).is_some());
    }

    fn failed(&self, plural: &'static str, error: &watcher::Error) {
        tracing::warn!(what = plural, %error, "cannot follow the API server; trying again");
        self.missing.send_if_modified(|missing| {
            missing.get_mut(plural).is_some_and(|reason| {
                *reason = error.to_string();
                true
            })
        });
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where an object is, if it is known.
    pub(super) fn place(&self, key: &ObjectKey) -> Option<Place> {
        self.known().places.get(key).cloned()
    }
}

/// Starts a watch a kind.
pub(super) fn start(cluster: &Cluster) -> JoinSet<()> {
    let mut watches = JoinSet::new();
    for info in KINDS.iter().filter(|info| is_there(info.kind)) {
        watches.spawn(follow(cluster.clone(), info.kind, info.plural));
    }
    watches.spawn(follow_private(cluster.clone()));
    watches
}

async fn follow(cluster: Cluster, kind: Kind, plural: &'static str) {
    let resource = super::resource(kind);
    let mut config = watcher::Config::default();
    let api: Api<DynamicObject> = if kind == Kind::Secret {
        config = config.fields(&format!("type={SECRET_TYPE}"));
        cluster.api(kind, "")
    } else {
        Api::all_with(cluster.client.clone(), &resource)
    };
    let mut events = watcher(api, config).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => {
                cluster.views.known().listed.insert(kind, HashSet::new());
            }
            Ok(Event::InitApply(stored) | Event::Apply(stored)) => cluster.observe(kind, &stored),
            Ok(Event::InitDone) => {
                cluster.forget_unlisted(kind);
                cluster.views.listed(plural);
            }
            Ok(Event::Delete(stored)) => {
                if let Ok(object) = wire::decode(kind, &stored, &cluster.namespace) {
                    cluster.gone(&object.key(), Some(object.meta.resource_version));
                }
            }
            Err(error) => cluster.views.failed(plural, &error),
        }
    }
}

async fn follow_private(cluster: Cluster) {
    let api: Api<Secret> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let config = watcher::Config::default().fields(&format!("type={PRIVATE_TYPE}"));
    let mut events = watcher(api, config).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::InitApply(secret) | Event::Apply(secret)) => {
                if let Some((name, value)) = wire::read_private(secret) {
                    cluster.write_state().private.insert(name, value);
                }
            }
            Ok(Event::Delete(secret)) => {
                if let Some((name, _)) = wire::read_private(secret) {
                    cluster.write_state().private.remove(&name);
                }
            }
            Ok(Event::Init) => {}
            Ok(Event::InitDone) => cluster.views.listed(PRIVATE),
            Err(error) => cluster.views.failed(PRIVATE, &error),
        }
    }
}

impl Cluster {
    pub(super) fn write_state(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the API server holds now. What cannot be read leaves the last state as it is.
    pub(super) fn observe(&self, kind: Kind, stored: &DynamicObject) {
        if let Err(problem) = self.take(kind, stored) {
            let Place { namespace, name } = Place::of(stored);
            tracing::warn!(%kind, namespace, name, %problem, "an object is not taken");
        }
    }

    /// Takes what the API server holds now; returns what is known then, which may be newer.
    pub(super) fn take(&self, kind: Kind, stored: &DynamicObject) -> Result<Arc<Object>, Problem> {
        let place = Place::of(stored);
        let object = match wire::decode(kind, stored, &self.namespace) {
            Ok(object) => object,
            Err(problem) => {
                // It exists: its last state is not forgotten at the end of a list.
                let mut known = self.views.known();
                let keys: Vec<_> =
                    known.places.iter().filter(|(_, at)| **at == place).map(|(key, _)| key.clone()).collect();
                known.listed.entry(kind).or_default().extend(keys);
                return Err(problem);
            }
        };
        let key = object.key();
        let mut known = self.views.known();
        if let Some(listed) = known.listed.get_mut(&kind) {
            listed.insert(key.clone());
        }
        known.places.insert(key.clone(), place);
        drop(known);
        let mut state = self.write_state();
        if let Some(newer) = state
            .objects
            .get(&key)
            .filter(|known| known.meta.resource_version >= object.meta.resource_version)
        {
            return Ok(newer.clone());
        }
        let object = Arc::new(object);
        state.change(key, Some(object.clone()));
        Ok(object)
    }

    /// An object is gone, as of this resource version.
    pub(super) fn gone(&self, key: &ObjectKey, resource_version: Option<u64>) {
        let mut state = self.write_state();
        let is_older =
            |object: &Arc<Object>| resource_version.is_none_or(|at| object.meta.resource_version <= at);
        if state.objects.get(key).is_some_and(is_older) {
            state.change(key.clone(), None);
            drop(state);
            self.views.known().places.remove(key);
        }
    }

    fn forget_unlisted(&self, kind: Kind) {
        let listed = self.views.known().listed.remove(&kind).unwrap_or_default();
        let keys: Vec<ObjectKey> = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            state.of(kind, None).map(|object| object.key()).filter(|key| !listed.contains(key)).collect()
        };
        for key in keys {
            self.gone(&key, None);
        }
    }
}

impl State {
    /// Makes a change visible to readers and watchers.
    pub(crate) fn change(&mut self, key: ObjectKey, object: Option<Arc<Object>>) {
        self.revision += 1;
        match &object {
            Some(object) => self.objects.insert(key.clone(), object.clone()),
            None => self.objects.remove(&key),
        };
        let change = Change { key, object, revision: self.revision };
        self.watchers.tell(&change);
    }
}
