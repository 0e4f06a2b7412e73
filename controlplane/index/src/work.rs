//! What the index has had to do: counted, so that tests can tell what a change costs.

use std::sync::{Arc, Mutex, PoisonError};

/// What the index has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Times that all of a mesh was worked out anew.
    pub anew: u64,
    /// Proxies that were looked at, each as often as it was.
    pub looked_at: u64,
    /// Models of whole proxies that were worked out.
    pub models: u64,
    /// Resources that were built and encoded.
    pub built: u64,
    /// Proxies that were told something new.
    pub told: u64,
}

/// The same, where several add to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted(Arc<Mutex<Work>>);

impl Counted {
    pub(crate) fn get(&self) -> Work {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, work: Work) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = work;
    }
}
