//! Equal values that are kept once.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// When to sweep what forgets values that nobody holds: whenever there are twice as many as the last sweep left, so that
/// the cost is constant per value.
#[derive(Debug, Default)]
pub struct Sweep {
    left: usize,
}

impl Sweep {
    /// Whether so many are due.
    pub fn is_due(&self, count: usize) -> bool {
        count >= (self.left * 2).max(64)
    }

    /// So many were left.
    pub fn done(&mut self, left: usize) {
        self.left = left;
    }
}

/// Values of which many are equal, each kept once. It holds none that nobody else does, but for a while.
#[derive(Debug)]
pub struct Shared<T> {
    known: HashSet<Arc<T>>,
    sweep: Sweep,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { known: HashSet::new(), sweep: Sweep::default() }
    }
}

impl<T: Eq + Hash> Shared<T> {
    /// The value that is equal to this one, which becomes it if there is none.
    pub fn of(&mut self, value: T) -> Arc<T> {
        match self.known.get(&value) {
            Some(known) => known.clone(),
            None => self.keep(Arc::new(value)),
        }
    }

    /// The same of a value that others hold, too.
    pub fn one(&mut self, value: &Arc<T>) -> Arc<T> {
        match self.known.get(value) {
            Some(known) => known.clone(),
            None => self.keep(value.clone()),
        }
    }

    fn keep(&mut self, value: Arc<T>) -> Arc<T> {
        if self.sweep.is_due(self.known.len()) {
            self.known.retain(|value| Arc::strong_count(value) > 1);
            self.sweep.done(self.known.len());
        }
        self.known.insert(value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_what_nobody_holds_is_forgotten() {
        let mut shared = Shared::default();
        let first = shared.of("a".to_owned());
        assert!(Arc::ptr_eq(&first, &shared.of("a".to_owned())));
        for number in 0..1_000 {
            shared.of(number.to_string());
        }
        assert!(shared.known.len() <= 129, "{}", shared.known.len());
        assert!(Arc::ptr_eq(&first, &shared.of("a".to_owned())));
    }
}
