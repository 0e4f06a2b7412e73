//! Waits with a condition and a bound.

use std::time::{Duration, Instant};

/// Bound of most waits: generous, since machines that test are busy.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Looks until there is something; fails with this description at the bound.
pub(crate) async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    within(SOON, what, look).await
}

/// The same with another bound.
pub(crate) async fn within<T>(bound: Duration, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let end = Instant::now() + bound;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {bound:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
