//! The demo of the talk: a counter application, a launcher that starts a whole mesh of real processes on loopback
//! addresses, and the scenario that is played against it.
//!
//! It uses Ursa as a user does: binaries, REST API, files. Invariant: when a [`Demo`] has stopped, none of its
//! processes is left, and no file outside its state folder.

pub mod api;
pub mod app;
pub mod check;
pub mod endpoints;
pub mod exec;
pub mod folders;
pub mod guide;
pub mod launch;
pub mod peer;
pub mod process;
pub mod programs;
pub mod redis_server;
pub mod resources;
pub mod signals;
pub mod topology;
pub mod ursactl;

pub use launch::{Demo, Options};
