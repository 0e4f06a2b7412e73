//! When the callers of an inbound become fewer, its listener is sent to Envoy with new filter chains, so that the
//! connections of those who may no longer call end within the drain time.
//!
//! The listener is the control plane's still: its version here is the control plane's with a mark behind it.

use std::sync::Arc;

use ursa_envoy::{ResourceType, listener_of_callers, narrows, with_generation};

use crate::xds::cache::{Cache, Entry};

/// Between the control plane's version and the number of the chains; no version of the control plane has it.
const MARK: char = '~';

/// The version as the control plane knows it.
pub(super) fn upstream_version(version: &str) -> &str {
    version.split_once(MARK).map_or(version, |(version, _)| version)
}

/// Replaces the chains of the listener whose callers this secret decides on, if it accepts fewer than the one before.
pub(super) fn replace_chains(wanted: &mut Cache, secret: &str, new: &Entry) {
    let Some(listener) = listener_of_callers(secret) else { return };
    let Some(old) = wanted.get(ResourceType::Secret, secret) else { return };
    if old.version == new.version || !narrows(&old.body, &new.body) {
        return;
    }
    let Some(current) = wanted.get(ResourceType::Listener, &listener) else { return };
    let generation = current.version.split_once(MARK).and_then(|(_, n)| n.parse().ok()).unwrap_or(0_u64) + 1;
    let Some(body) = with_generation(&current.body, generation) else { return };
    let version = format!("{}{MARK}{generation}", upstream_version(&current.version));
    wanted.insert(ResourceType::Listener, &listener, Arc::new(Entry { version, body }));
}
