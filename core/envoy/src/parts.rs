//! What was made of parts of models that proxies share, found by the part itself: nothing has to be compared.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use ursa_model::Sweep;

use crate::resource::Resource;

/// Resources by the part that they were made of, and whether traffic is captured. Both are held weakly.
#[derive(Debug)]
pub(crate) struct Parts<T> {
    /// By the part's place in memory, which stays its own while it is referred to.
    known: HashMap<(usize, bool), Made<T>>,
    sweep: Sweep,
}

#[derive(Debug)]
struct Made<T> {
    of: Weak<T>,
    resources: Vec<Weak<Resource>>,
}

impl<T> Default for Parts<T> {
    fn default() -> Self {
        Self { known: HashMap::new(), sweep: Sweep::default() }
    }
}

impl<T> Parts<T> {
    /// What was made of this part, if all of it is alive.
    pub(crate) fn get(&self, part: &Arc<T>, captured: bool) -> Option<Vec<Arc<Resource>>> {
        let made = self.known.get(&(Arc::as_ptr(part).addr(), captured))?;
        made.resources.iter().map(Weak::upgrade).collect()
    }

    /// This was made of it.
    pub(crate) fn set(&mut self, part: &Arc<T>, captured: bool, made: &[Arc<Resource>]) {
        if self.sweep.is_due(self.known.len()) {
            self.known.retain(|_, made| made.of.strong_count() > 0);
            self.sweep.done(self.known.len());
        }
        let made = Made { of: Arc::downgrade(part), resources: made.iter().map(Arc::downgrade).collect() };
        self.known.insert((Arc::as_ptr(part).addr(), captured), made);
    }
}
