//! Whether the mesh and its policies are in force: the conditions `Programmed`, `ResolvedRefs` and, of a mesh, `Rotated`, worked
//! out from what zones say. The same wherever it is shown: in the status on Kubernetes, in the REST API and by `ursactl`.

mod programmed;
mod references;
mod rotated;

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Value, json};
use ursa_crds::{Enforcement, Kind, Object, ObjectKey, Spec, ZoneProgress, schema};
use ursa_store::Store;

use crate::zone_state::{ZoneState, zone_insight};
use programmed::{Outdated, ZoneView, programmed};

/// A condition without the times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// One word for programs.
    pub reason: Cow<'static, str>,
    /// For people.
    pub message: String,
}

/// How a resource stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether every known proxy that it touches enforces it, in every zone.
    pub programmed: Verdict,
    /// Whether there is what it names.
    pub resolved_refs: Verdict,
    /// Of a mesh with mutual TLS: whether all certificates are of the authority that is enabled.
    pub rotated: Option<Verdict>,
    /// How far each zone is, ordered by name.
    pub zones: Vec<ZoneProgress>,
}

impl Standing {
    /// Its conditions by type.
    pub fn conditions(&self) -> Vec<(&'static str, &Verdict)> {
        let all = [("Programmed", &self.programmed), ("ResolvedRefs", &self.resolved_refs)];
        all.into_iter().chain(self.rotated.iter().map(|rotated| ("Rotated", rotated))).collect()
    }

    /// As `status` of a resource.
    fn to_value(&self, generation: u64) -> Value {
        let condition = |(name, verdict): (&str, &Verdict)| {
            json!({
                "type": name, "status": verdict.status, "reason": verdict.reason, "message": verdict.message,
                "observedGeneration": generation,
            })
        };
        let conditions: Vec<Value> = self.conditions().into_iter().map(condition).collect();
        json!({"conditions": conditions, "zones": self.zones})
    }
}

/// Whether resources of a kind are enforced by proxies.
pub fn is_enforced(kind: Kind) -> bool {
    matches!(kind, Kind::Mesh | Kind::TrafficPermission | Kind::TrafficRoute)
}

/// How a resource stands; `None` if it is of a kind that no proxy enforces. `own_zone`: of a control plane that is not global.
pub fn standing(store: &Store, own_zone: Option<&str>, object: &Object) -> Option<Standing> {
    if !is_enforced(object.kind()) {
        return None;
    }
    let mesh = object.spec.mesh().unwrap_or(&object.meta.name);
    let zones: Vec<ZoneView> = match own_zone {
        Some(zone) => vec![view(store, mesh, zone, None, object)],
        None => (store.list(Kind::Zone).iter())
            .filter_map(|zone| {
                let away = away(store, zone)?;
                let outdated = outdated(store, &zone.meta.name, object);
                Some(ZoneView { outdated, ..view(store, mesh, &zone.meta.name, away, object) })
            })
            .collect(),
    };
    let (programmed, zones) = programmed(object.meta.generation, &zones);
    let rotated = match &object.spec {
        Spec::Mesh(spec) => rotated::rotated(store, mesh, spec, zones.iter().map(|zone| zone.name.as_str())),
        _ => None,
    };
    Some(Standing { programmed, resolved_refs: references::resolved(store, mesh, object), rotated, zones })
}

/// A resource as it is answered: with its status.
pub(crate) fn with_status(store: &Store, own_zone: Option<&str>, object: &Object) -> Value {
    let mut value = object.to_value();
    if let Some(standing) = standing(store, own_zone, object) {
        value["status"] = standing.to_value(object.meta.generation);
    }
    value
}

/// Since when a zone that counts is away, if it is (the inner `Option`); `None`: it does not count, for nobody wants its
/// traffic, or it was never there.
#[expect(clippy::option_option, reason = "whether it counts, and whether it is away")]
fn away(store: &Store, zone: &Object) -> Option<Option<Timestamp>> {
    let Spec::Zone(spec) = &zone.spec else { return None };
    let insight = zone_insight(store, &zone.meta.name);
    match ZoneState::of(spec, insight.connected, &insight) {
        ZoneState::Online => Some(None),
        ZoneState::Stale | ZoneState::Incompatible => {
            insight.disconnected_at.or(insight.connected_at).map(Some)
        }
        ZoneState::Disabled | ZoneState::New => None,
    }
}

fn view(store: &Store, mesh: &str, zone: &str, away_since: Option<Timestamp>, object: &Object) -> ZoneView {
    let enforcement = enforcement(store, mesh, zone, &object.meta.uid).unwrap_or_default();
    ZoneView { name: zone.to_owned(), away_since, outdated: None, enforcement }
}

/// What a zone of an older version does not know of an object, or does not tell.
fn outdated(store: &Store, zone: &str, object: &Object) -> Option<Outdated> {
    let schema = zone_schema(store, zone)?;
    let fields = schema::unknown_in(object, schema);
    let is_mute = !schema::knows(Kind::MeshZoneInsight, schema);
    (is_mute || !fields.is_empty()).then_some(Outdated { schema, fields })
}

/// The newest schema that a zone's control plane speaks, if it has said so.
pub(crate) fn zone_schema(store: &Store, zone: &str) -> Option<u32> {
    Some(zone_insight(store, zone).schema).filter(|schema| *schema > 0)
}

/// What a zone said last of what has this UID.
pub(crate) fn enforcement(store: &Store, mesh: &str, zone: &str, uid: &str) -> Option<Enforcement> {
    let insight = store.get(&ObjectKey::in_mesh(Kind::MeshZoneInsight, mesh, zone))?;
    let Spec::MeshZoneInsight(spec) = &insight.spec else { return None };
    // Ordered by UID.
    let found = spec.resources.binary_search_by(|known| known.uid.as_str().cmp(uid));
    Some(spec.resources[found.ok()?].clone())
}
