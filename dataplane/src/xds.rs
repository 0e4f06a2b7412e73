//! Delta xDS on both sides: from the control plane to a cache, and from the cache to Envoy.
//!
//! [`relay`] decides (values in, values out), [`engine`] is the one task that owns it, [`upstream`] and
//! [`downstream`] carry its messages, [`store`] keeps the last-good set on disk.
//! Invariant: Envoy gets nothing that did not come through the relay.

pub mod cache;
pub mod downstream;
pub mod engine;
pub mod relay;
pub mod store;
pub mod upstream;
