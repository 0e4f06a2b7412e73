//! Synchronisation of objects between the global control plane and its zones.
//!
//! The engine is pure: one [`Outgoing`] and one [`Incoming`] a direction, for an owner that has objects and a holder
//! that keeps copies of them.
//!
//! Invariants, each with a test in [`engine`]: after a heal both sides are equal; a disconnect never deletes; only the
//! owner's word deletes, and only if it is the owner that the copies came from (the same store epoch, or one that an
//! administrator adopted); no-op writes are not sent.

pub mod engine;

pub use engine::{Delta, Incoming, Outgoing, Verdict};
