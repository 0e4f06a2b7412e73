//! Synchronisation of objects between the global control plane and its zones: one stream a zone; and of what the replicas
//! of one control plane see.
//!
//! The [`engine`] is pure: one [`Outgoing`] a direction at the owner, one [`Incoming`] at the holder of copies.
//! [`global`] and [`zone`] are its edges; [`ownership`] says which object goes where.
//!
//! Invariants, each with a test in [`engine`]: after a heal both sides are equal; a disconnect never deletes; only the
//! owner's word deletes, and only if it is the owner that the copies came from (the same store epoch, or one that an
//! administrator adopted); what did not change is not sent.

mod credential;
pub mod engine;
pub mod global;
mod meeting;
pub mod ownership;
pub mod replicas;
mod unheard;
pub mod wire;
pub mod zone;

pub use engine::{Delta, Incoming, Outgoing, Verdict};
