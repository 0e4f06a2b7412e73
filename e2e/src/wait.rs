//! Waiting for a condition, with a bound.

use std::fmt::Display;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often a condition is looked at.
const PERIOD: Duration = Duration::from_millis(20);

/// Tries until `attempt` succeeds, and says how long that took; past the bound, fails with the last reason.
pub async fn eventually<T, E: Display>(
    what: &str,
    bound: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => {
                println!("{what}: after {} ms", start.elapsed().as_millis());
                return Ok(value);
            }
            Err(error) if start.elapsed() > bound => anyhow::bail!("{what}: not within {bound:?}: {error}"),
            Err(_) => tokio::time::sleep(PERIOD).await,
        }
    }
}

/// Since 1970, as the tests' program in pods counts.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
