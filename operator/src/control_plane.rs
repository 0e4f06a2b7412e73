//! The controller of ControlPlanes: observe, plan, apply.
//!
//! It acts on ControlPlanes of the operator's own namespace only, so that who may write one elsewhere gets nothing by it,
//! and the operator needs no right on Secrets of others.

pub mod observe;
pub mod plan;
mod reach;
mod report;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{Api, DynamicObject};
use kube::runtime::controller::{Action, Error};
use kube::runtime::events::Recorder;
use kube::runtime::finalizer::{self, Event, finalizer};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use kube::{Client, Resource, ResourceExt as _};
use tracing::{info, warn};
use ursa_crds::{ControlPlane, ControlPlaneMode};

use crate::cluster::{self, ApplyError, Ownership};
use crate::metrics::{Metrics, Outcome};
use crate::names::{CONTROL_PLANE, MANAGED_BY, Names, OPERATOR};
use observe::{ObserveError, observe};
use plan::{Defaults, READY, Status};
use reach::Reach;

/// On ControlPlanes: cluster-scoped objects go first. Any operator can remove it; no control plane is needed.
pub const FINALIZER: &str = "ursamesh.io/operator";
/// Everything is looked at this often, even if nothing seems to change: certificates age.
const AGAIN: Duration = Duration::from_mins(10);
/// After a failure.
const RETRY: Duration = Duration::from_secs(5);
/// While the API server does not reach a webhook that serves.
const UNREACHED: Duration = Duration::from_secs(1);
/// Of several changes at once, such as our own, one look is enough.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// What a reconciliation needs.
pub(crate) struct Context {
    /// The API server.
    pub(crate) client: Client,
    /// What the operator decides where a ControlPlane says nothing.
    pub(crate) defaults: Defaults,
    /// Counts.
    pub(crate) metrics: Metrics,
    /// Tells users.
    pub(crate) recorder: Recorder,
}

/// Why a reconciliation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// While it looked.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// While it wrote objects.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// While it asked whether the webhook is reached.
    #[error("cannot ask whether the webhook is reached: {0}")]
    Reach(#[source] kube::Error),
    /// While it wrote the status.
    #[error("cannot write the status: {0}")]
    Status(#[source] kube::Error),
}

/// Follows the ControlPlanes of a namespace, and all that belongs to them, for as long as it is polled.
pub(crate) async fn run(context: Arc<Context>, namespace: &str) {
    let client = context.client.clone();
    let ours = || watcher::Config::default().labels(&format!("{MANAGED_BY}={OPERATOR}"));
    let controller =
        Controller::new(namespaced::<ControlPlane>(&client, namespace), watcher::Config::default())
            .with_config(kube::runtime::controller::Config::default().debounce(DEBOUNCE))
            .owns(namespaced::<Deployment>(&client, namespace), ours())
            .owns(namespaced::<Service>(&client, namespace), ours())
            .owns(namespaced::<ServiceAccount>(&client, namespace), ours())
            .owns(namespaced::<Secret>(&client, namespace), ours())
            .owns(namespaced::<ConfigMap>(&client, namespace), ours())
            .owns(namespaced::<Role>(&client, namespace), ours())
            .owns(namespaced::<RoleBinding>(&client, namespace), ours())
            .owns(namespaced::<NetworkPolicy>(&client, namespace), ours())
            .owns(namespaced::<PodDisruptionBudget>(&client, namespace), ours())
            .watches(Api::<ClusterRole>::all(client.clone()), ours(), owner_in(namespace))
            .watches(Api::<ClusterRoleBinding>::all(client.clone()), ours(), owner_in(namespace))
            .watches(Api::<MutatingWebhookConfiguration>::all(client.clone()), ours(), owner_in(namespace))
            .watches(Api::<ValidatingWebhookConfiguration>::all(client.clone()), ours(), owner_in(namespace));
    let done = controller.run(reconcile, on_error, context.clone());
    done.for_each(async |result| match result {
        Err(Error::ObjectNotFound(gone)) => sweep(&gone, namespace, &context).await,
        // Failures of reconciliations are logged where they are known.
        Ok(_) | Err(Error::ReconcilerFailed(..)) => {}
        Err(error) => warn!(%error, "a watch failed and starts again"),
    })
    .await;
}

fn namespaced<K>(client: &Client, namespace: &str) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client.clone(), namespace)
}

/// The ControlPlane of the namespace that a cluster-scoped object belongs to.
fn owner_in<K: Resource>(
    namespace: &str,
) -> impl Fn(K) -> Option<ObjectRef<ControlPlane>> + Send + Sync + 'static {
    let namespace = namespace.to_owned();
    move |object| {
        let names = Names::of_cluster_object(&object.name_any())?;
        (names.namespace == namespace).then(|| ObjectRef::new(&names.name).within(&names.namespace))
    }
}

async fn reconcile(
    control_plane: Arc<ControlPlane>,
    context: Arc<Context>,
) -> Result<Action, finalizer::Error<ReconcileError>> {
    let namespace = control_plane.namespace().unwrap_or_default();
    let api = Api::<ControlPlane>::namespaced(context.client.clone(), &namespace);
    let names = Names::new(&namespace, &control_plane.name_any());
    let result = finalizer(&api, FINALIZER, control_plane, async |event| match event {
        Event::Apply(control_plane) => set_up(&control_plane, &names, &context).await,
        Event::Cleanup(_) => clean_up(&names, &context).await,
    })
    .await;
    let outcome = if result.is_ok() { Outcome::Done } else { Outcome::Failed };
    context.metrics.reconciled("control_plane", outcome);
    result
}

async fn set_up(
    control_plane: &ControlPlane,
    names: &Names,
    context: &Context,
) -> Result<Action, ReconcileError> {
    let observed = observe(&context.client, control_plane, names, Timestamp::now()).await?;
    let plan = plan::plan(control_plane, &observed, &context.defaults);
    let (label, uid) = (names.label(), control_plane.uid().unwrap_or_default());
    let ownership = Ownership::Of { key: CONTROL_PLANE, label: &label, uid: &uid };
    // That a Lease is held no longer is nothing that happens.
    let may_be_unled = control_plane.spec.mode == ControlPlaneMode::Zone
        && plan.status.connection.is_none()
        && observed.control_plane.as_ref().is_none_or(|seen| seen.available == 0);
    let mut status = plan.status;
    match cluster::apply(&context.client, &plan.objects, ownership).await {
        Ok(applied) => {
            let waits = waits_for_webhook(control_plane, &mut status, &context.client).await?;
            report::write(control_plane, report::Told::Applied(applied, status), context).await?;
            if waits {
                return Ok(Action::requeue(UNREACHED));
            }
        }
        Err(error) => {
            let told = report::Told::NotApplied(&error, status);
            report::write(control_plane, told, context).await?;
            return Err(error.into());
        }
    }
    // cert-manager's Secrets are not ours to watch.
    let waits = observed.tls.control_plane_ca().is_none();
    Ok(Action::requeue(if waits || may_be_unled { RETRY } else { AGAIN }))
}

/// What becomes ready is reached by the API server as well. Afterwards the replicas tell: a call that fails once is no outage.
async fn waits_for_webhook(
    control_plane: &ControlPlane,
    status: &mut Status,
    client: &Client,
) -> Result<bool, ReconcileError> {
    let told = control_plane.status.iter().flat_map(|status| &status.conditions);
    let was_ready = told.into_iter().any(|told| told.type_ == READY && told.status == "True");
    if was_ready || !status.is_ready() {
        return Ok(false);
    }
    match reach::of(client).await.map_err(ReconcileError::Reach)? {
        Reach::Answered => Ok(false),
        Reach::NotYet(reason) => {
            status.wait_for_webhook(&reason);
            Ok(true)
        }
    }
}

/// Removes what is cluster-scoped, and nothing else; the rest goes with the ControlPlane.
async fn clean_up(names: &Names, context: &Context) -> Result<Action, ReconcileError> {
    remove_cluster_objects(names, context).await?;
    info!(namespace = names.namespace, name = names.name, "a ControlPlane is removed");
    Ok(Action::await_change())
}

async fn remove_cluster_objects(names: &Names, context: &Context) -> Result<(), ApplyError> {
    // What the API server asks goes first: nothing is to wait for an answer that no one gives.
    let kinds = [
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
        "ClusterRoleBinding",
        "ClusterRole",
    ];
    cluster::remove(&context.client, &kinds, &names.query(), &names.cluster("")).await
}

/// Removes what is left of a ControlPlane whose finalizer was taken away by force.
async fn sweep(gone: &ObjectRef<DynamicObject>, namespace: &str, context: &Context) {
    let names = Names::new(namespace, &gone.name);
    let planes = Api::<ControlPlane>::namespaced(context.client.clone(), namespace);
    let swept = match planes.get_opt(&gone.name).await {
        Ok(Some(_)) => return,
        Ok(None) => remove_cluster_objects(&names, context).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = swept {
        warn!(namespace, name = gone.name, error, "what is left of a ControlPlane cannot be removed");
    }
}

fn on_error(
    control_plane: Arc<ControlPlane>,
    error: &finalizer::Error<ReconcileError>,
    _: Arc<Context>,
) -> Action {
    let (namespace, name) = (control_plane.namespace().unwrap_or_default(), control_plane.name_any());
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    warn!(namespace, name, %error, cause, "a ControlPlane is not as it is to be; trying again");
    Action::requeue(RETRY)
}
