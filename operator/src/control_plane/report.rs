//! The status of a ControlPlane on the API server, and events where it turns.
//!
//! Invariant: what is told already is not written again.

use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;
use tracing::info;
use ursa_crds::{ControlPlane, ControlPlaneStatus};

use super::plan::Status;
use super::{Context, ReconcileError};
use crate::cluster::{Applied, ApplyError};
use crate::conditions;
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
                status.degrade(conditions::reason_of(error), &error.to_string());
                status
            }
        }
    }
}

pub(super) async fn write(
    control_plane: &ControlPlane,
    told: Told<'_>,
    context: &Context,
) -> Result<(), ReconcileError> {
    let known = control_plane.status.clone().unwrap_or_default();
    let Status { generation, version, conditions: found } = told.status();
    let status = ControlPlaneStatus {
        observed_generation: Some(generation),
        version: Some(version),
        conditions: conditions::merged(&known.conditions, found, generation, Timestamp::now()),
    };
    if known == status {
        return Ok(());
    }
    let namespace = control_plane.namespace().unwrap_or_default();
    let api = Api::<ControlPlane>::namespaced(context.client.clone(), &namespace);
    let patch = json!({
        "apiVersion": ursa_crds::API_VERSION, "kind": "ControlPlane",
        "metadata": {"name": control_plane.name_any()}, "status": status,
    });
    let params = PatchParams::apply(OPERATOR).force();
    api.patch_status(&control_plane.name_any(), &params, &Patch::Apply(patch))
        .await
        .map_err(ReconcileError::Status)?;
    for condition in conditions::turned(&known.conditions, &status.conditions) {
        let (name, to) = (&condition.type_, &condition.status);
        info!(
            namespace,
            control_plane = control_plane.name_any(),
            condition = name,
            to,
            reason = condition.reason,
            "turned"
        );
        conditions::publish(&context.recorder, &control_plane.object_ref(&()), condition).await;
    }
    Ok(())
}
