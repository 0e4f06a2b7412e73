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
use super::{Cluster, KubernetesError, is_there, status, wire};
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
    places: HashMap<ObjectKey, Place>,
    /// The same the other way round.
    keys: HashMap<Place, ObjectKey>,
    /// The API server's newest version that was seen.
    versions: HashMap<ObjectKey, u64>,
    /// What users wrote that is of later definitions, with the field, until everything has been listed: of that no state is
    /// known that could count.
    later: HashMap<Place, Problem>,
}

/// Where an object is on the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    kind: Kind,
    /// Empty: in none.
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Place {
    fn of(kind: Kind, stored: &DynamicObject) -> Self {
        Self {
            kind,
            namespace: stored.metadata.namespace.clone().unwrap_or_default(),
            name: stored.metadata.name.clone().unwrap_or_default(),
        }
    }
}

impl Known {
    fn forget(&mut self, key: &ObjectKey) -> Option<Place> {
        self.versions.remove(key);
        self.places.remove(key)
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

/// Of what is later so much is named.
const MOST_NAMED: usize = 5;
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

    /// What of all that was listed cannot be known: it is of later definitions.
    pub(super) fn later(&self) -> Option<KubernetesError> {
        let later = std::mem::take(&mut self.known().later);
        let said = later.iter().map(|(place, problem)| {
            let Place { kind, namespace, name } = place;
            let of = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
            format!("{kind} {of}{name} has {}", problem.field)
        });
        let mut objects: Vec<String> = said.collect();
        objects.sort();
        objects.truncate(MOST_NAMED);
        (!objects.is_empty()).then(|| KubernetesError::Later { objects: objects.join(", ") })
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

    /// The API server's newest version of an object that was seen.
    pub(super) fn version(&self, key: &ObjectKey) -> Option<u64> {
        self.known().versions.get(key).copied()
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
            // The operator's ingresses are discovered; what others than the system say of zones is nobody's word.
            Ok(Event::InitApply(stored) | Event::Apply(stored))
                if wire::is_of_operator(kind, &stored)
                    || wire::is_out_of_place(kind, &stored, &cluster.namespace) => {}
            Ok(Event::InitApply(stored) | Event::Apply(stored)) => cluster.observe(kind, &stored),
            Ok(Event::InitDone) => {
                cluster.forget_unlisted(kind);
                cluster.views.listed(plural);
            }
            Ok(Event::Delete(stored)) => {
                // Whatever its last state was.
                let key = cluster.views.known().keys.get(&Place::of(kind, &stored)).cloned();
                if let Some(key) = key {
                    cluster.gone(&key, Some(wire::stored_version(&stored)));
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
                    cluster.write_state().take_private(name, value);
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
    /// Takes what the API server holds now, and tells users whether it is accepted.
    pub(super) fn observe(&self, kind: Kind, stored: &DynamicObject) {
        let problems = self.take(kind, stored).err().unwrap_or_default();
        for problem in &problems {
            let Place { namespace, name, .. } = Place::of(kind, stored);
            tracing::warn!(%kind, namespace, name, %problem, "an object is not taken; its last state counts");
        }
        status::tell(self, kind, stored, &problems);
        self.note_later(kind, stored, problems);
    }

    /// Remembers, before everything has been listed, what has no state that could count.
    fn note_later(&self, kind: Kind, stored: &DynamicObject, problems: Vec<Problem>) {
        let is_starting = !self.views.missing.borrow().is_empty();
        if !is_starting || wire::is_of_control_planes(kind, stored, &self.namespace) {
            return;
        }
        let place = Place::of(kind, stored);
        let later = problems.into_iter().find(is_later);
        let mut known = self.views.known();
        match later {
            Some(problem) => known.later.insert(place, problem),
            None => known.later.remove(&place),
        };
    }

    /// Takes what the API server holds now; returns what is known then, which may be newer. What is wrong leaves the last
    /// state as it is.
    pub(super) fn take(&self, kind: Kind, stored: &DynamicObject) -> Result<Arc<Object>, Vec<Problem>> {
        let object = wire::understand(kind, stored, &self.namespace, self.schema)
            .map_err(|problem| vec![explained(problem)]);
        let place = Place::of(kind, stored);
        let mut known = self.views.known();
        let key = match &object {
            Ok(object) => object.key(),
            Err(problems) => (known.keys.get(&place).cloned())
                .or_else(|| wire::written_key(kind, stored, &self.namespace))
                .ok_or_else(|| problems.clone())?,
        };
        if let Some(former) = known.keys.insert(place.clone(), key.clone()).filter(|former| *former != key) {
            // It went to another mesh.
            known.forget(&former);
            self.write_state().remove(former);
        }
        // It exists, whatever is wrong with it.
        if let Some(listed) = known.listed.get_mut(&kind) {
            listed.insert(key.clone());
        }
        let version = wire::stored_version(stored);
        let seen = known.versions.get(&key).copied().unwrap_or_default();
        known.versions.insert(key.clone(), version.max(seen));
        known.places.insert(key.clone(), place);
        let mut object = object?;
        let problems = ursa_policy::validate(&object);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut state = self.write_state();
        state.as_it_was(&mut object);
        if state.discovered.contains(&key) {
            return Err(vec![Problem::new(
                "metadata.name",
                "a pod has this name in the mesh, or a zone ingress of the operator; choose another",
            )]);
        }
        // A status, or what others keep in the metadata, is no change of the object.
        if let Some(current) =
            state.objects.get(&key).filter(|current| seen >= version || ***current == object)
        {
            return Ok(current.clone());
        }
        state.outbounds.share(&mut object);
        let object = Arc::new(object);
        state.change(key, Some(object.clone()));
        Ok(object)
    }

    /// An object is gone, as of this version of the API server.
    pub(super) fn gone(&self, key: &ObjectKey, version: Option<u64>) {
        let mut known = self.views.known();
        let seen = known.versions.get(key).copied().unwrap_or_default();
        if version.is_some_and(|at| at < seen) {
            return; // another has come in its place
        }
        if let Some(place) = known.forget(key) {
            known.keys.remove(&place);
        }
        self.write_state().remove(key.clone());
    }

    fn forget_unlisted(&self, kind: Kind) {
        let listed = self.views.known().listed.remove(&kind).unwrap_or_default();
        let keys: Vec<ObjectKey> = {
            let state = self.read_state();
            let keys = state.of(kind, None).map(|object| object.key());
            keys.filter(|key| !listed.contains(key) && !state.discovered.contains(key)).collect()
        };
        for key in keys {
            self.gone(&key, None);
        }
    }
}

/// Why an object is not taken that is of later definitions.
pub(super) const LATER: &str =
    "this control plane is older than the installed definitions and does not know the field: upgrade it";

/// The API server keeps no field that the definitions do not have: one that is not known here is of later definitions.
fn explained(problem: Problem) -> Problem {
    match problem.message.as_str() {
        "unknown field" => Problem::new(problem.field, LATER),
        _ => problem,
    }
}

/// Whether the object is of later definitions.
pub(super) fn is_later(problem: &Problem) -> bool {
    problem.message == LATER
}

impl State {
    /// What was discovered is not what the API server had under its name.
    fn remove(&mut self, key: ObjectKey) {
        if self.objects.contains_key(&key) && !self.discovered.contains(&key) {
            self.change(key, None);
        }
    }

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
