//! The store on a Kubernetes API server: reads from memory, which watches keep up to date; writes go to the server.
//!
//! Users' objects are custom resources and Secrets, so that `kubectl` and the REST API show the same. What control planes
//! observe (insights) stays in memory: an API server is no place for heartbeats.
//!
//! Invariant: what a write's answer says is visible to readers before the answer is given, and a watcher sees each state once.

mod follow;
mod former;
mod restore;
mod status;
mod wire;
mod write;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use serde::Deserialize as _;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;
use ursa_crds::{Kind, Object, Owner, Problem};
use uuid::Uuid;

use crate::names::EPOCH;
use crate::state::State;
use crate::writer::Request;
use follow::Views;
pub(crate) use former::Former;

/// The API server has this long to answer with everything that there is.
const START: Duration = Duration::from_mins(1);

/// Where the objects are.
#[derive(Clone, Debug)]
pub struct KubernetesConfig {
    /// The namespace of what belongs to no other: `ursa-system`.
    pub namespace: String,
    /// The newest schema that is understood: [`ursa_crds::schema::CURRENT`], unless an older version is played.
    pub schema: u32,
    /// The ControlPlane that this control plane is, if an operator set it up: its authority is part of a snapshot.
    pub control_plane: Option<String>,
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// No cluster is configured: neither a kubeconfig file nor a pod's own account.
    #[error("no Kubernetes cluster is configured: {0}; set KUBECONFIG, or run in a pod")]
    Config(String),
    /// Not everything could be listed.
    #[error("the API server did not list all of {missing} within {seconds} s; {reason}")]
    Unsettled {
        /// Kinds that are missing, by their plural.
        missing: String,
        /// How long it was waited.
        seconds: u64,
        /// The last error, or what is likely.
        reason: String,
    },
    /// Users' objects are of later definitions. Without them others would be let in, or kept out.
    #[error(
        "a later version wrote what this one does not know: {objects}; start that version again, or take it out before you go back"
    )]
    Later {
        /// Up to five, with a field of each.
        objects: String,
    },
    /// It refused a write.
    #[error("the store cannot be made: {0}")]
    Write(String),
}

/// Whether objects of a kind are on the API server.
pub(crate) fn is_there(kind: Kind) -> bool {
    !matches!(kind.info().owner, Owner::ZoneObserved | Owner::GlobalObserved)
}

/// The cluster, as the parts of the store use it.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    namespace: String,
    schema: u32,
    control_plane: Option<String>,
    state: Arc<RwLock<State>>,
    views: Views,
}

impl Cluster {
    fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Objects of a kind in a namespace (empty: the system's).
    fn api(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        api(&self.client, kind, if namespace.is_empty() { &self.namespace } else { namespace })
    }
}

/// Objects of a kind on the API server, in this namespace if they are in any.
pub fn api(client: &Client, kind: Kind, namespace: &str) -> Api<DynamicObject> {
    let resource = resource(kind);
    if kind.info().namespaced {
        Api::namespaced_with(client.clone(), namespace, &resource)
    } else {
        Api::all_with(client.clone(), &resource)
    }
}

/// An object as the API server holds it, in or out of the system's namespace.
pub fn read_stored(kind: Kind, stored: &Value, system: &str) -> Result<Object, Problem> {
    let stored = DynamicObject::deserialize(stored);
    let stored = stored.map_err(|error| Problem::new("metadata", error.to_string()))?;
    wire::decode(kind, &stored, system)
}

/// What is wrong, in one line.
fn texts(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn resource(kind: Kind) -> ApiResource {
    if kind == Kind::Secret {
        return ApiResource::erase::<k8s_openapi::api::core::v1::Secret>(&());
    }
    let (group, version) = ursa_crds::API_VERSION.split_once('/').expect("a group and a version");
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk(group, version, kind.info().name),
        kind.info().plural,
    )
}

/// What [`open`] makes: the state that is kept up to date, the store's epoch, and where writes go.
pub(crate) struct Opened {
    pub(crate) state: Arc<RwLock<State>>,
    pub(crate) epoch: String,
    pub(crate) requests: mpsc::UnboundedSender<Request>,
}

/// Reads everything, then follows it until the last sender of requests is gone.
pub(crate) async fn open(config: KubernetesConfig) -> Result<Opened, KubernetesError> {
    let client = Client::try_default().await.map_err(|error| KubernetesError::Config(error.to_string()))?;
    let state = Arc::new(RwLock::new(State::default()));
    let views = Views::default();
    let KubernetesConfig { namespace, schema, control_plane } = config;
    let cluster = Cluster { client, namespace, schema, control_plane, state: state.clone(), views };
    let following = follow::start(&cluster);
    if timeout(START, cluster.views.settled()).await.is_err() {
        return Err(cluster.views.unsettled(START));
    }
    if let Some(later) = cluster.views.later() {
        return Err(later);
    }
    let epoch = write::private(&cluster, EPOCH, Uuid::new_v4().to_string().into_bytes(), false)
        .await
        .map_err(|error| KubernetesError::Write(error.to_string()))?;
    let epoch = String::from_utf8_lossy(&epoch).into_owned();
    let (requests, receiver) = mpsc::unbounded_channel();
    tokio::spawn(write::run(cluster, receiver, following));
    Ok(Opened { state, epoch, requests })
}
