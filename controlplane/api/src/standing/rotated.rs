//! The condition `Rotated` of a mesh: whether all certificates are of the authority that is enabled.
//!
//! A backend is removed once it is true; before, removal is refused.

use ursa_crds::{Kind, MeshSpec, MeshZoneSpec, ObjectKey, Spec};
use ursa_store::Store;

use super::Verdict;

/// Over these zones; `None`: the mesh has no mutual TLS.
pub(super) fn rotated<'a>(
    store: &Store,
    mesh: &str,
    spec: &MeshSpec,
    zones: impl Iterator<Item = &'a str>,
) -> Option<Verdict> {
    let enabled = &spec.enabled_backend()?.name;
    let mut total = 0;
    let mut obstacles = Vec::new();
    for zone in zones {
        let offer = store.get(&ObjectKey::in_mesh(Kind::MeshZone, mesh, zone));
        let Some(Spec::MeshZone(offer)) = offer.as_deref().map(|object| &object.spec) else { continue };
        let (held, text) = in_zone(zone, enabled, offer);
        total += held;
        obstacles.extend(text);
    }
    Some(if obstacles.is_empty() {
        let message = format!("all certificates are of backend {enabled}: {total}");
        Verdict { status: "True", reason: "Rotated".into(), message }
    } else {
        Verdict { status: "False", reason: "Rotating".into(), message: obstacles.join("; ") }
    })
}

/// How many certificates are held, and what is in the way.
fn in_zone(zone: &str, enabled: &str, offer: &MeshZoneSpec) -> (u32, Option<String>) {
    let total = offer.backends.iter().map(|backend| backend.proxies).sum();
    let others: Vec<String> = (offer.backends.iter())
        .filter(|backend| backend.name != enabled && backend.proxies > 0)
        .map(|backend| format!("{} of backend {}", backend.proxies, backend.name))
        .collect();
    let text = if !others.is_empty() {
        Some(format!("zone {zone}: of {total} certificates are {}", others.join(", ")))
    } else if offer.backends.iter().all(|backend| backend.name != enabled) {
        Some(format!("zone {zone}: backend {enabled} is not known yet"))
    } else {
        None
    };
    (total, text)
}
