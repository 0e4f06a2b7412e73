//! Exponential back-off with jitter: 100 ms … 5 s.
//!
//! Invariant: a pause lies between half of its step and the step, so that many agents don't come back at once.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);

/// The longest pause.
pub const LONGEST: Duration = Duration::from_secs(5);

/// Counts attempts that failed.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait after one more failure.
    pub fn pause(&mut self) -> Duration {
        let pause = pause(self.failures, rand::random());
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// It worked: the next failure is the first.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The pause after `failures` earlier ones; `random` in 0 … 1.
fn pause(failures: u32, random: f64) -> Duration {
    let step = FIRST.saturating_mul(1 << failures.min(16)).min(LONGEST);
    step.mul_f64(0.5 + random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let steps: Vec<_> = (0..8).map(|failures| pause(failures, 1.0).as_millis()).collect();
        assert_eq!(steps, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pause(u32::MAX, 1.0), LONGEST);
        assert_eq!(pause(0, 0.0), FIRST / 2);
    }

    #[test]
    fn success_starts_over() {
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            backoff.pause();
        }
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
    }
}
