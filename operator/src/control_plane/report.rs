//! The status of a ControlPlane on the API server, and events where it turns.
//!
//! Invariant: what is told already is not written again. `ConnectedToGlobal` is
//! the control plane's: what is applied here never has it, so that server-side apply leaves it alone.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;
use tracing::info;
use ursa_crds::{CONNECTED_TO_GLOBAL, CONNECTION_MANAGER, ControlPlane, ControlPlaneStatus};

use super::plan::Status;
use super::{Context, ReconcileError};
use crate::cluster::{Applied, ApplyError};
use crate::conditions::{self, Condition};
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
    let mut known = control_plane.status.clone().unwrap_or_default();
    let Status { generation, version, conditions: found, connection } = told.status();
    let namespace = control_plane.namespace().unwrap_or_default();
    let api = Api::<ControlPlane>::namespaced(context.client.clone(), &namespace);
    tell_connection(&api, &control_plane.name_any(), &known, connection).await?;
    known.conditions.retain(|condition| condition.type_ != CONNECTED_TO_GLOBAL);
    let status = ControlPlaneStatus {
        observed_generation: Some(generation),
        version: Some(version),
        conditions: conditions::merged(&known.conditions, found, generation, Timestamp::now()),
    };
    if known == status {
        return Ok(());
    }
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

/// Says in the control plane's place, and as its field manager, what it cannot say: the operator must not come to own a part
/// of the condition, since what it then leaves out would be taken out of it.
async fn tell_connection(
    api: &Api<ControlPlane>,
    name: &str,
    known: &ControlPlaneStatus,
    told: Option<Condition>,
) -> Result<(), ReconcileError> {
    let Some(told) = told else { return Ok(()) };
    let before = known.conditions.iter().find(|condition| condition.type_ == told.name);
    if before
        .is_some_and(|before| (before.status.as_str(), before.reason.as_str()) == (told.status, told.reason))
    {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": ursa_crds::API_VERSION, "kind": "ControlPlane", "metadata": {"name": name},
        "status": {"conditions": [{
            "type": told.name,
            "status": told.status,
            "reason": told.reason,
            "message": told.message,
            "lastTransitionTime": Time(conditions::whole_seconds(Timestamp::now())),
        }]},
    });
    let params = PatchParams::apply(CONNECTION_MANAGER).force();
    api.patch_status(name, &params, &Patch::Apply(patch)).await.map(drop).map_err(ReconcileError::Status)
}
