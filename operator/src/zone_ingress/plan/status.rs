//! What users are told: where it is reached, and `Ready`, `Progressing`, `Degraded`, `Advertised`.

use ursa_crds::{SocketSpec, ZoneIngress};

use super::Source;
use super::address::{self, Reach};
use crate::conditions::{Condition, Conditions};
use crate::control_plane::observe::Rollout;
use crate::zone_ingress::observe::{Observed, Plane};

/// The status, without times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The generation that it is about.
    pub generation: i64,
    /// Where other zones reach it.
    pub address: Option<SocketSpec>,
    /// How many replicas serve.
    pub ready_replicas: i32,
    /// The conditions.
    pub conditions: Conditions,
}

pub(super) fn status(source: &Source<'_>, ingress: &ZoneIngress, observed: &Observed) -> Status {
    let generation = ingress.metadata.generation.unwrap_or_default();
    let ready_replicas = observed.rollout.as_ref().map_or(0, |seen| seen.available);
    if let Some((reason, message)) = obstacle(source, &observed.control_plane) {
        let starts = observed.control_plane == Plane::Starting;
        let of = |name, holds| Condition::new(name, holds, reason, message.clone());
        let conditions = vec![
            of("Ready", false),
            of("Progressing", starts),
            of("Degraded", !starts),
            of("Advertised", false),
        ];
        return Status { generation, address: None, ready_replicas, conditions };
    }
    let (address, advertised) = match address::find(source, ingress, observed) {
        Reach::At(socket, reason, message) => {
            let message = format!("{}, {message}", shown(socket));
            (Some(socket), Condition::new("Advertised", true, reason, message))
        }
        Reach::NotYet(reason, message) => {
            let last = address::last(ingress);
            let message = match last {
                Some(last) => format!("{message}; until then the last address counts, {}", shown(last)),
                None => message,
            };
            (last, Condition::new("Advertised", false, reason, message))
        }
    };
    let conditions = vec![
        ready(observed.rollout.as_ref(), &advertised, address.is_some()),
        progressing(observed.rollout.as_ref()),
        degraded(observed.rollout.as_ref()),
        advertised,
    ];
    Status { generation, address, ready_replicas, conditions }
}

fn shown(SocketSpec { address, port }: SocketSpec) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

/// Why nothing can be set up.
fn obstacle(source: &Source<'_>, plane: &Plane) -> Option<(&'static str, String)> {
    let name = source.spec.control_plane_ref.as_ref().map(|of| of.name.as_str()).unwrap_or_default();
    match plane {
        Plane::NotFound => Some((
            "ControlPlaneNotFound",
            format!("there is no ControlPlane {name} in namespace {}", source.names.namespace),
        )),
        Plane::Global => Some((
            "ControlPlaneIsGlobal",
            format!("ControlPlane {name} is a global one, which is in no zone: name that of a zone"),
        )),
        Plane::Starting => {
            Some(("WaitingForControlPlane", format!("ControlPlane {name} has no certificates yet")))
        }
        Plane::Known(_) => None,
    }
}

fn ready(rollout: Option<&Rollout>, advertised: &Condition, is_known: bool) -> Condition {
    if rollout.is_none_or(|seen| seen.available == 0) {
        return Condition::new("Ready", false, "Unavailable", "no replica is available");
    }
    if !is_known {
        return Condition::new("Ready", false, advertised.reason, advertised.message.clone());
    }
    Condition::new("Ready", true, "Available", "other zones are told where they reach it")
}

fn progressing(rollout: Option<&Rollout>) -> Condition {
    match rollout {
        None => Condition::new("Progressing", true, "RollingOut", "the replicas are being created"),
        Some(seen) if !seen.is_done() => {
            let message =
                format!("{} of {} replicas are current and available", seen.current(), seen.replicas);
            Condition::new("Progressing", true, "RollingOut", message)
        }
        Some(_) => Condition::new("Progressing", false, "RolledOut", "all replicas are current"),
    }
}

fn degraded(rollout: Option<&Rollout>) -> Condition {
    let Some(seen) = rollout else {
        return Condition::new("Degraded", false, "AsExpected", "nothing is amiss");
    };
    if let Some(reason) = &seen.stuck {
        let message = format!("the replicas do not get on: {reason}");
        return Condition::new("Degraded", true, "RolloutStuck", message);
    }
    if seen.is_done() && seen.available < seen.replicas {
        let message = format!("{} of {} replicas are available", seen.available, seen.replicas);
        return Condition::new("Degraded", true, "ReplicasUnavailable", message);
    }
    Condition::new("Degraded", false, "AsExpected", "nothing is amiss")
}
