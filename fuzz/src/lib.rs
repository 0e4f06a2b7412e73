//! Fuzz targets: bytes from outside go in, and a target panics when an invariant breaks.
//!
//! The test suite replays seeds and mutations of them, the same each time; `make fuzz` goes on with guidance by coverage
//! (libFuzzer, in `fuzz/libfuzzer`). What once broke something stays in `fuzz/regressions/<target>/`.

mod delta;
mod resource;
mod seeds;
mod sync_frame;

pub use delta::delta;
pub use resource::resource;
pub use seeds::seeds;
pub use sync_frame::sync_frame;

/// A target: takes any bytes, and panics if an invariant breaks.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: &[(&str, Target)] =
    &[("resource", resource), ("delta", delta), ("sync_frame", sync_frame)];
