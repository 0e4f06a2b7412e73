//! Conditions: what users are told, when they turned, and events where they do.
//!
//! Invariant: a condition's time is that of its last turn.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{self, Time};
use kube::runtime::events::{Event, EventType, Recorder};
use tracing::warn;

use crate::cluster::ApplyError;

/// A condition's message and an event's note are for people; the API server bounds them.
const MESSAGE: usize = 1000;

/// A condition without its times, which depend on what was told before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What it is about.
    pub name: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// For programs: CamelCase.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Condition {
    /// Whether something holds, and why.
    pub(crate) fn new(
        name: &'static str,
        holds: bool,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { name, status: if holds { "True" } else { "False" }, reason, message: message.into() }
    }
}

/// Conditions, in their order.
pub type Conditions = Vec<Condition>;

/// Tells this in place of what the condition said.
pub(crate) fn replace(conditions: &mut Conditions, by: Condition) {
    if let Some(known) = conditions.iter_mut().find(|known| known.name == by.name) {
        *known = by;
    }
}

/// Something is amiss, whatever was seen.
pub(crate) fn degrade(conditions: &mut Conditions, reason: &'static str, message: &str) {
    replace(conditions, Condition::new("Degraded", true, reason, message));
}

/// Why not all is applied, for programs.
pub(crate) fn reason_of(error: &ApplyError) -> &'static str {
    match error {
        ApplyError::NameTaken(_) => "NameTaken",
        ApplyError::Apply { .. } | ApplyError::Remove { .. } => "ApplyFailed",
    }
}

/// As the API server keeps times.
pub(crate) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The conditions to write: times of those that did not turn stay.
pub(crate) fn merged(
    known: &[v1::Condition],
    found: Conditions,
    generation: i64,
    now: Timestamp,
) -> Vec<v1::Condition> {
    let now = whole_seconds(now);
    let condition = |found: Condition| {
        let before = known.iter().find(|before| before.type_ == found.name);
        let since = before
            .filter(|before| before.status == found.status)
            .map(|before| before.last_transition_time.clone());
        v1::Condition {
            type_: found.name.to_owned(),
            status: found.status.to_owned(),
            reason: found.reason.to_owned(),
            message: found.message.chars().take(MESSAGE).collect(),
            observed_generation: Some(generation),
            last_transition_time: since.unwrap_or(Time(now)),
        }
    };
    found.into_iter().map(condition).collect()
}

/// Conditions that users want to hear of: those whose status or reason is another one.
pub(crate) fn turned<'a>(known: &[v1::Condition], now: &'a [v1::Condition]) -> Vec<&'a v1::Condition> {
    let is_new = |condition: &&v1::Condition| {
        let before = known.iter().find(|before| before.type_ == condition.type_);
        before.is_none_or(|before| (&before.status, &before.reason) != (&condition.status, &condition.reason))
    };
    // That nothing is degraded at the start, and that what comes up is under way, is no news.
    let is_news = |condition: &&v1::Condition| {
        condition.status == "True" || known.iter().any(|before| before.type_ == condition.type_)
    };
    now.iter().filter(is_new).filter(is_news).collect()
}

/// Tells of a turn by an event.
pub(crate) async fn publish(recorder: &Recorder, regarding: &ObjectReference, condition: &v1::Condition) {
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
    if let Err(error) = recorder.publish(&event, regarding).await {
        warn!(%error, "an event could not be published");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ready: bool, reason: &'static str) -> Conditions {
        vec![Condition::new("Ready", ready, reason, "")]
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_turns() {
        let first = merged(&[], found(false, "Starting"), 3, at(1));
        let second = merged(&first, found(false, "Waiting"), 3, at(2));
        assert_eq!(second[0].last_transition_time, Time(at(1)));
        let third = merged(&second, found(true, "Available"), 3, at(3));
        assert_eq!(third[0].last_transition_time, Time(at(3)));
        assert_eq!(merged(&third, found(true, "Available"), 3, at(4)), third);
    }

    #[test]
    fn users_hear_of_what_turns_and_only_once() {
        let waiting = merged(&[], found(false, "Starting"), 3, at(1));
        assert!(turned(&[], &waiting).is_empty());
        let ready = merged(&waiting, found(true, "Available"), 3, at(2));
        assert_eq!(turned(&waiting, &ready).len(), 1);
        assert!(turned(&ready, &ready).is_empty());
    }
}
