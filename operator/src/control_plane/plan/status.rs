//! What users are told: `Ready`, `Progressing`, `Degraded`. Whether a zone is connected to global its control plane tells;
//! only while there is none that could, it is told from here that nobody knows.

use ursa_crds::{CONNECTED_TO_GLOBAL, ControlPlaneMode, FailurePolicy};

use super::Source;
use crate::conditions;
use crate::control_plane::observe::{Observed, Rollout};

pub use crate::conditions::{Condition, Conditions};

/// Whether control plane and webhook serve.
pub(crate) const READY: &str = "Ready";

/// The status, without times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The generation that it is about.
    pub generation: i64,
    /// The tag or digest of the image.
    pub version: String,
    /// The conditions.
    pub conditions: Conditions,
    /// Of a zone without anybody who could tell: that it is not known whether it is connected to global.
    pub connection: Option<Condition>,
}

impl Status {
    /// Whether everything that users write is served.
    pub(crate) fn is_ready(&self) -> bool {
        self.conditions.iter().any(|condition| condition.name == READY && condition.status == "True")
    }

    /// The API server does not reach the webhook yet.
    pub(crate) fn wait_for_webhook(&mut self, reason: &str) {
        let message = format!("the API server does not reach the webhook: {reason}");
        let waits = Condition::new(READY, false, "WebhookUnreachable", message);
        conditions::replace(&mut self.conditions, waits);
    }

    /// Something could not be applied.
    pub(crate) fn degrade(&mut self, reason: &'static str, message: &str) {
        conditions::degrade(&mut self.conditions, reason, message);
    }
}

pub(super) fn status(source: &Source<'_>, observed: &Observed, configured: bool, generation: i64) -> Status {
    let conditions = vec![ready(source, observed, configured), progressing(observed), degraded(observed)];
    let connection = connection(source, observed);
    Status { generation, version: version(source.image()), conditions, connection }
}

/// What the control plane told last counts for as long as one leads: it takes back what is not so any more.
fn connection(source: &Source<'_>, observed: &Observed) -> Option<Condition> {
    let serves = observed.control_plane.as_ref().is_some_and(|seen| seen.available > 0);
    if source.spec.mode != ControlPlaneMode::Zone || serves || observed.led {
        return None;
    }
    Some(Condition {
        name: CONNECTED_TO_GLOBAL,
        status: "Unknown",
        reason: "ControlPlaneUnavailable",
        message: "no replica of the control plane is there to be connected to global".into(),
    })
}

/// The tag or digest of an image.
fn version(image: &str) -> String {
    if let Some((_, digest)) = image.split_once('@') {
        return digest.to_owned();
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').map_or("latest", |(_, tag)| tag).to_owned()
}

fn parts(observed: &Observed) -> [(&'static str, Option<&Rollout>); 2] {
    [("control plane", observed.control_plane.as_ref()), ("webhook", observed.webhook.as_ref())]
}

fn condition(name: &'static str, status: bool, reason: &'static str, message: String) -> Condition {
    Condition { name, status: if status { "True" } else { "False" }, reason, message }
}

fn ready(source: &Source<'_>, observed: &Observed, configured: bool) -> Condition {
    let no = |reason, message: &str| condition(READY, false, reason, message.to_owned());
    let serves = |seen: &Option<Rollout>| seen.as_ref().is_some_and(|seen| seen.available > 0);
    if observed.tls.control_plane_ca().is_none() {
        return no("WaitingForCertificates", "cert-manager has not issued the certificates yet");
    }
    if !serves(&observed.control_plane) {
        return no("ControlPlaneUnavailable", "no replica of the control plane is available");
    }
    if !serves(&observed.webhook) {
        let message = match source.spec.webhook.failure_policy {
            _ if !configured || !source.injects() => "no replica of the webhook is available",
            FailurePolicy::Fail => {
                "no replica of the webhook is available: pods that are to get a sidecar are not created"
            }
            FailurePolicy::Ignore => {
                "no replica of the webhook is available: pods that are to get a sidecar are created without one"
            }
        };
        return no("WebhookUnavailable", message);
    }
    condition(READY, true, "Available", "the control plane and the webhook serve".into())
}

fn progressing(observed: &Observed) -> Condition {
    let under_way: Vec<String> = parts(observed)
        .into_iter()
        .filter_map(|(part, seen)| match seen {
            None => Some(format!("the {part} is being created")),
            Some(seen) if !seen.is_done() => Some(format!(
                "{} of {} replicas of the {part} are current and available",
                seen.current(),
                seen.replicas
            )),
            Some(_) => None,
        })
        .collect();
    if under_way.is_empty() {
        return condition("Progressing", false, "RolledOut", "all replicas are current".into());
    }
    condition("Progressing", true, "RollingOut", under_way.join("; "))
}

fn degraded(observed: &Observed) -> Condition {
    let stuck = parts(observed).into_iter().find_map(|(part, seen)| {
        seen.and_then(|seen| seen.stuck.as_ref())
            .map(|reason| format!("the {part} does not get on: {reason}"))
    });
    if let Some(message) = stuck {
        return condition("Degraded", true, "RolloutStuck", message);
    }
    let short = parts(observed).into_iter().find_map(|(part, seen)| {
        let seen = seen.filter(|seen| seen.is_done() && seen.available < seen.replicas)?;
        Some(format!("{} of {} replicas of the {part} are available", seen.available, seen.replicas))
    });
    match short {
        Some(message) => condition("Degraded", true, "ReplicasUnavailable", message),
        None => condition("Degraded", false, "AsExpected", "nothing is amiss".into()),
    }
}
