//! The controller of ZoneIngresses: observe, plan, apply.
//!
//! It acts on those of the operator's own namespace that name a ControlPlane, as that of ControlPlanes does. Everything that it
//! makes is in the namespace and goes with the ZoneIngress: there is no finalizer.

mod nodes;
pub mod observe;
pub mod plan;
mod report;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::Api;
use kube::runtime::controller::{Action, Error};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Client, Resource, ResourceExt as _};
use tokio::sync::mpsc;
use tracing::warn;
use ursa_crds::{ControlPlane, ZoneIngress};

use crate::cluster::{self, ApplyError, Ownership};
use crate::control_plane::Context;
use crate::metrics::Outcome;
use crate::names::{IngressNames, MANAGED_BY, Names, OPERATOR, ZONE_INGRESS};
use nodes::Nodes;
use observe::{ObserveError, observe};

/// After a failure.
const RETRY: Duration = Duration::from_secs(5);
/// Of several changes at once, such as our own, one look is enough.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// What a reconciliation needs.
struct Work {
    context: Arc<Context>,
    nodes: Nodes,
}

/// Why a reconciliation failed.
#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    /// While it looked.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// While it wrote objects.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// While it wrote the status.
    #[error("cannot write the status: {0}")]
    Status(#[source] kube::Error),
}

/// Follows the ZoneIngresses of a namespace, and all that they depend on, for as long as it is polled.
pub(crate) async fn run(context: Arc<Context>, namespace: &str) {
    let client = context.client.clone();
    // One change of nodes that waits is enough: it is about all of them.
    let (changed, changes) = mpsc::channel(1);
    let work = Arc::new(Work { context, nodes: Nodes::default() });
    let nodes = work.nodes.clone();
    tokio::select! {
        () = control(&client, namespace, work, changes) => {}
        () = nodes.follow(&client, changed) => {}
    }
}

async fn control(client: &Client, namespace: &str, work: Arc<Work>, changes: mpsc::Receiver<()>) {
    let ours = || watcher::Config::default().labels(&format!("{MANAGED_BY}={OPERATOR}"));
    let controller =
        Controller::new(namespaced::<ZoneIngress>(client, namespace), watcher::Config::default());
    let (of_plane, of_settings) = (controller.store(), controller.store());
    let controller = controller
        .with_config(kube::runtime::controller::Config::default().debounce(DEBOUNCE))
        .owns(namespaced::<Deployment>(client, namespace), ours())
        .owns(namespaced::<Service>(client, namespace), ours())
        .owns(namespaced::<ServiceAccount>(client, namespace), ours())
        .owns(namespaced::<NetworkPolicy>(client, namespace), ours())
        .owns(namespaced::<PodDisruptionBudget>(client, namespace), ours())
        .watches(
            namespaced::<ControlPlane>(client, namespace),
            watcher::Config::default(),
            move |plane: ControlPlane| ingresses_of(&of_plane, &plane.name_any()),
        )
        .watches(namespaced::<ConfigMap>(client, namespace), ours(), move |map: ConfigMap| {
            let plane = Names::of_settings(&map.name_any()).map(str::to_owned);
            plane.map(|plane| ingresses_of(&of_settings, &plane)).unwrap_or_default()
        })
        .reconcile_all_on(stream_of(changes));
    let done = controller.run(reconcile, on_error, work.clone());
    done.for_each(async |result| match result {
        Err(Error::ObjectNotFound(gone)) => work.nodes.want(&gone.name, false),
        // Failures of reconciliations are logged where they are known.
        Ok(_) | Err(Error::ReconcilerFailed(..)) => {}
        Err(error) => warn!(%error, "a watch failed and starts again"),
    })
    .await;
}

/// The receiver as a stream.
fn stream_of(changes: mpsc::Receiver<()>) -> impl futures::Stream<Item = ()> + Send + 'static {
    futures::stream::unfold(changes, async |mut changes| {
        changes.recv().await?;
        Some(((), changes))
    })
}

fn namespaced<K>(client: &Client, namespace: &str) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client.clone(), namespace)
}

/// The ZoneIngresses that name a ControlPlane.
fn ingresses_of(all: &Store<ZoneIngress>, plane: &str) -> Vec<ObjectRef<ZoneIngress>> {
    let names =
        |ingress: &ZoneIngress| ingress.spec.control_plane_ref.as_ref().is_some_and(|of| of.name == plane);
    all.state()
        .iter()
        .filter(|ingress| names(ingress))
        .map(|ingress| ObjectRef::from_obj(&**ingress))
        .collect()
}

async fn reconcile(ingress: Arc<ZoneIngress>, work: Arc<Work>) -> Result<Action, ReconcileError> {
    // One that is registered is not for an operator; what belongs to one that goes, goes with it.
    if ingress.spec.control_plane_ref.is_none() || ingress.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let result = set_up(&ingress, &work).await;
    let outcome = if result.is_ok() { Outcome::Done } else { Outcome::Failed };
    work.context.metrics.reconciled("zone_ingress", outcome);
    result.map(|()| Action::await_change())
}

async fn set_up(ingress: &ZoneIngress, work: &Work) -> Result<(), ReconcileError> {
    let names = IngressNames::new(&ingress.namespace().unwrap_or_default(), &ingress.name_any());
    let observed = observe(&work.context.client, ingress, &names, &work.nodes).await?;
    let plan = plan::plan(ingress, &observed);
    let (label, uid) = (names.label(), ingress.uid().unwrap_or_default());
    let ownership = Ownership::Of { key: ZONE_INGRESS, label: &label, uid: &uid };
    match cluster::apply(&work.context.client, &plan.objects, ownership).await {
        Ok(applied) => {
            report::write(ingress, report::Told::Applied(applied, plan.status), &work.context).await
        }
        Err(error) => {
            let told = report::Told::NotApplied(&error, plan.status);
            report::write(ingress, told, &work.context).await?;
            Err(error.into())
        }
    }
}

fn on_error(ingress: Arc<ZoneIngress>, error: &ReconcileError, _: Arc<Work>) -> Action {
    let (namespace, name) = (ingress.namespace().unwrap_or_default(), ingress.name_any());
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    warn!(namespace, name, %error, cause, "a ZoneIngress is not as it is to be; trying again");
    Action::requeue(RETRY)
}
