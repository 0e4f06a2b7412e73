//! Which object goes where. Pure.

use ursa_crds::{KINDS, Kind, Object, ObjectKey, Owner, Spec, ZoneSpec};
use ursa_store::Store;

/// The zone that owns an object of a kind that zones own.
pub fn owning_zone(object: &Object) -> Option<&str> {
    match &object.spec {
        Spec::MeshZone(_) | Spec::MeshZoneInsight(_) => Some(&object.meta.name),
        Spec::ZoneIngress(spec) => Some(&spec.zone),
        Spec::DataplaneInsight(spec) => Some(&spec.zone),
        _ => None,
    }
}

/// Whether global sends an object to a zone; `enabled` says whether a zone's traffic is wanted.
pub fn goes_down(object: &Object, zone: &str, enabled: impl Fn(&str) -> bool) -> bool {
    match object.kind().info().owner {
        Owner::Global => true,
        Owner::Zone => owning_zone(object).is_some_and(|owner| owner != zone && enabled(owner)),
        Owner::GlobalOnly | Owner::ZoneOnly | Owner::ZoneObserved | Owner::GlobalObserved => false,
    }
}

/// Whether zones send their objects of a kind up.
pub fn is_sent_up(kind: Kind) -> bool {
    matches!(kind.info().owner, Owner::Zone | Owner::ZoneObserved)
}

/// Whether a zone sends an object up.
pub fn goes_up(object: &Object, zone: &str) -> bool {
    is_sent_up(object.kind()) && owning_zone(object) == Some(zone) && is_of_use(object)
}

/// An ingress that nobody knows how to reach is no way into the zone yet.
fn is_of_use(object: &Object) -> bool {
    match &object.spec {
        Spec::ZoneIngress(spec) => spec.reached_at().is_some(),
        _ => true,
    }
}

/// Whether an object in a zone's store is a copy of global's or of another zone's.
pub fn is_copy(object: &Object, zone: &str) -> bool {
    match object.kind().info().owner {
        Owner::Global => true,
        Owner::Zone => owning_zone(object) != Some(zone),
        Owner::GlobalOnly | Owner::ZoneOnly | Owner::ZoneObserved | Owner::GlobalObserved => false,
    }
}

/// What is wrong with an object that a zone sends up: it must be the zone's own, under a name of its own.
pub fn check_from_zone(object: &Object, zone: &str) -> Result<(), String> {
    let name = &object.meta.name;
    if !goes_up(object, zone) {
        return Err(format!("{} is not owned by zone {zone}", object.key()));
    }
    let own_name = match object.kind() {
        Kind::ZoneIngress | Kind::DataplaneInsight => {
            name.strip_prefix(zone).is_some_and(|rest| rest.starts_with('.'))
        }
        _ => name == zone,
    };
    if own_name { valid(object) } else { Err(format!("{} is not a name of zone {zone}", object.key())) }
}

/// What is wrong with an object that global sends to a zone.
pub fn check_from_global(object: &Object, zone: &str) -> Result<(), String> {
    if goes_down(object, zone, |_| true) {
        valid(object)
    } else {
        Err(format!("{} is not global's to send", object.key()))
    }
}

fn valid(object: &Object) -> Result<(), String> {
    let problems = ursa_policy::validate(object);
    problems.first().map_or(Ok(()), |problem| Err(format!("{}: {problem}", object.key())))
}

/// Whether global wants a zone's traffic: a zone is enabled until somebody disables it.
pub fn is_enabled(store: &Store, zone: &str) -> bool {
    match store.get(&ObjectKey::zone(zone)).as_deref() {
        Some(Object { spec: Spec::Zone(ZoneSpec { enabled, .. }), .. }) => *enabled,
        _ => true,
    }
}

/// Every object of a store that passes.
pub(crate) fn select(store: &Store, passes: impl Fn(&Object) -> bool) -> Vec<std::sync::Arc<Object>> {
    KINDS.iter().flat_map(|info| store.list(info.kind)).filter(|object| passes(object)).collect()
}
