//! The status of a ZoneIngress on the API server, and events where it turns.
//!
//! Invariant: what is told already is not written again; what the control plane tells is not touched.

use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;
use tracing::info;
use ursa_crds::{ZoneIngress, ZoneIngressStatus};

use super::ReconcileError;
use super::plan::Status;
use crate::cluster::{Applied, ApplyError};
use crate::conditions;
use crate::control_plane::Context;
use crate::names::OPERATOR;

/// What is told.
pub(super) enum Told<'a> {
    /// Everything is applied.
    Applied(Applied, Status),
    /// Something could not be.
    NotApplied(&'a ApplyError, Status),
}

impl Told<'_> {
    fn status(self) -> Status {
        match self {
            Self::Applied(_, status) => status,
            Self::NotApplied(error, mut status) => {
                conditions::degrade(&mut status.conditions, conditions::reason_of(error), &error.to_string());
                status
            }
        }
    }
}

pub(super) async fn write(
    ingress: &ZoneIngress,
    told: Told<'_>,
    context: &Context,
) -> Result<(), ReconcileError> {
    let known = ingress.status.clone().unwrap_or_default();
    let Status { generation, address, ready_replicas, conditions: found } = told.status();
    let mut status = ZoneIngressStatus {
        observed_generation: Some(generation),
        address: address.map(|at| at.address.to_string()),
        port: address.map(|at| at.port),
        ready_replicas: Some(ready_replicas),
        // The control plane's to say.
        services: known.services,
        conditions: conditions::merged(&known.conditions, found, generation, Timestamp::now()),
    };
    if known == status {
        return Ok(());
    }
    status.services = None;
    let (namespace, name) = (ingress.namespace().unwrap_or_default(), ingress.name_any());
    let api = Api::<ZoneIngress>::namespaced(context.client.clone(), &namespace);
    let patch = json!({
        "apiVersion": ursa_crds::API_VERSION, "kind": "ZoneIngress", "metadata": {"name": name}, "status": status,
    });
    let params = PatchParams::apply(OPERATOR).force();
    api.patch_status(&name, &params, &Patch::Apply(patch)).await.map_err(ReconcileError::Status)?;
    if known.address != status.address || known.port != status.port {
        info!(namespace, ingress = name, address = ?status.address, port = ?status.port, "reached at");
    }
    for condition in conditions::turned(&known.conditions, &status.conditions) {
        let (of, to) = (&condition.type_, &condition.status);
        info!(namespace, ingress = name, condition = of, to, reason = condition.reason, "turned");
        conditions::publish(&context.recorder, &ingress.object_ref(&()), condition).await;
    }
    Ok(())
}
