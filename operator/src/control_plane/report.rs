//! The status of a ControlPlane on the API server, and events where it turns.
//!
//! Invariant: what is told already is not written again; a condition's time is that of its last turn. `ConnectedToGlobal` is
//! the control plane's: what is applied here never has it, so that server-side apply leaves it alone.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;
use tracing::{info, warn};
use ursa_crds::{CONNECTED_TO_GLOBAL, CONNECTION_MANAGER, ControlPlane, ControlPlaneStatus};

use super::plan::Status;
use super::{Context, ReconcileError};
use crate::cluster::{Applied, ApplyError};
use crate::names::OPERATOR;

/// A condition's message and an event's note are for people; the API server bounds them.
const MESSAGE: usize = 1000;

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
                let reason = match error {
                    ApplyError::NameTaken(_) => "NameTaken",
                    ApplyError::Apply { .. } | ApplyError::Remove { .. } => "ApplyFailed",
                };
                status.degrade(reason, &error.to_string());
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
    let mut told = told.status();
    let namespace = control_plane.namespace().unwrap_or_default();
    let api = Api::<ControlPlane>::namespaced(context.client.clone(), &namespace);
    let connection = told.connection.take();
    tell_connection(&api, &control_plane.name_any(), &known, connection).await?;
    known.conditions.retain(|condition| condition.type_ != CONNECTED_TO_GLOBAL);
    let status = merged(&known, told, Timestamp::now());
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
    for condition in turned(&known, &status) {
        let (name, to) = (&condition.type_, &condition.status);
        info!(
            namespace,
            control_plane = control_plane.name_any(),
            condition = name,
            to,
            reason = condition.reason,
            "turned"
        );
        publish(control_plane, condition, context).await;
    }
    Ok(())
}

/// Says in the control plane's place, and as its field manager, what it cannot say: the operator must not come to own a part
/// of the condition, since what it then leaves out would be taken out of it.
async fn tell_connection(
    api: &Api<ControlPlane>,
    name: &str,
    known: &ControlPlaneStatus,
    told: Option<super::plan::Condition>,
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
            "lastTransitionTime": Time(whole_seconds(Timestamp::now())),
        }]},
    });
    let params = PatchParams::apply(CONNECTION_MANAGER).force();
    api.patch_status(name, &params, &Patch::Apply(patch)).await.map(drop).map_err(ReconcileError::Status)
}

/// As the API server keeps times.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The status to write: times of conditions that did not turn stay.
fn merged(known: &ControlPlaneStatus, status: Status, now: Timestamp) -> ControlPlaneStatus {
    let now = whole_seconds(now);
    let Status { generation, version, conditions, connection: _ } = status;
    let condition = |found: super::plan::Condition| {
        let before = known.conditions.iter().find(|before| before.type_ == found.name);
        let since = before
            .filter(|before| before.status == found.status)
            .map(|before| before.last_transition_time.clone());
        Condition {
            type_: found.name.to_owned(),
            status: found.status.to_owned(),
            reason: found.reason.to_owned(),
            message: found.message.chars().take(MESSAGE).collect(),
            observed_generation: Some(generation),
            last_transition_time: since.unwrap_or(Time(now)),
        }
    };
    ControlPlaneStatus {
        observed_generation: Some(generation),
        version: Some(version),
        conditions: conditions.into_iter().map(condition).collect(),
    }
}

/// Conditions that users want to hear of: those whose status or reason is another one.
fn turned<'a>(known: &ControlPlaneStatus, status: &'a ControlPlaneStatus) -> Vec<&'a Condition> {
    let is_new = |condition: &&Condition| {
        let before = known.conditions.iter().find(|before| before.type_ == condition.type_);
        before.is_none_or(|before| (&before.status, &before.reason) != (&condition.status, &condition.reason))
    };
    // That nothing is degraded at the start, and that what comes up is under way, is no news.
    let is_news = |condition: &&Condition| {
        condition.status == "True" || known.conditions.iter().any(|before| before.type_ == condition.type_)
    };
    status.conditions.iter().filter(is_new).filter(is_news).collect()
}

async fn publish(control_plane: &ControlPlane, condition: &Condition, context: &Context) {
    let is_bad = matches!(
        (condition.type_.as_str(), condition.status.as_str()),
        ("Ready", "False") | ("Degraded", "True")
    );
    let event = Event {
        type_: if is_bad { EventType::Warning } else { EventType::Normal },
        reason: condition.reason.clone(),
        note: Some(condition.message.clone()),
        action: format!("{}{}", condition.type_, condition.status),
        secondary: None,
    };
    if let Err(error) = context.recorder.publish(&event, &control_plane.object_ref(&())).await {
        warn!(%error, "an event could not be published");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::plan;

    fn status(ready: &'static str, reason: &'static str) -> Status {
        let message = String::new();
        let condition = plan::Condition { name: "Ready", status: ready, reason, message };
        Status { generation: 3, version: "1".to_owned(), conditions: vec![condition], connection: None }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_turns() {
        let first = merged(&ControlPlaneStatus::default(), status("False", "Starting"), at(1));
        let second = merged(&first, status("False", "Waiting"), at(2));
        assert_eq!(second.conditions[0].last_transition_time, Time(at(1)));
        let third = merged(&second, status("True", "Available"), at(3));
        assert_eq!(third.conditions[0].last_transition_time, Time(at(3)));
        assert_eq!(merged(&third, status("True", "Available"), at(4)), third);
    }

    #[test]
    fn users_hear_of_what_turns_and_only_once() {
        let none = ControlPlaneStatus::default();
        let waiting = merged(&none, status("False", "Starting"), at(1));
        assert!(turned(&none, &waiting).is_empty());
        let ready = merged(&waiting, status("True", "Available"), at(2));
        assert_eq!(turned(&waiting, &ready).len(), 1);
        assert!(turned(&ready, &ready).is_empty());
    }
}
