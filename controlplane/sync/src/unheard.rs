//! Zones that have not spoken to a restored store yet.
//!
//! What a backup says of a zone may be out of date. Until the zone has said what it has, global says nothing of it to the
//! other zones: they go on with what they hold of it. Invariant: a restored global takes nothing from a zone that another
//! zone still has.

use std::collections::BTreeSet;

use tokio::sync::Mutex;
use ursa_crds::{Kind, ObjectKey};
use ursa_store::names::UNHEARD;
use ursa_store::{Store, StoreError};

use crate::ownership;

/// Those that are wanted: of a disabled zone nobody is to hold anything.
pub(crate) fn withheld(store: &Store) -> BTreeSet<String> {
    of(store).into_iter().filter(|zone| ownership::is_enabled(store, zone)).collect()
}

/// All of them.
pub(crate) fn of(store: &Store) -> BTreeSet<String> {
    let stored = store.private(UNHEARD).unwrap_or_default();
    serde_json::from_slice(&stored).unwrap_or_default()
}

/// The zone whose word an object under this key is, if others get copies of it.
pub(crate) fn zone_of(key: &ObjectKey) -> Option<&str> {
    match key.kind {
        Kind::MeshZone => Some(&key.name),
        // As `ownership::check_from_zone` has it.
        Kind::ZoneIngress => key.name.split_once('.').map(|(zone, _)| zone),
        _ => None,
    }
}

/// The zone has spoken, or is no more. `alone`: one changes the list at a time.
pub(crate) async fn heard(store: &Store, zone: &str, alone: &Mutex<()>) -> Result<(), StoreError> {
    if !of(store).contains(zone) {
        return Ok(());
    }
    let _alone = alone.lock().await;
    let mut zones = of(store);
    zones.remove(zone);
    tracing::info!(zone, waiting = zones.len(), "the zone has spoken to the restored store");
    store.private_put(UNHEARD, serde_json::to_vec(&zones).expect("texts serialize")).await
}
