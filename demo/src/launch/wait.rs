//! Waiting, always with a condition and a bound.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, sleep};

use crate::process::Process;

const PAUSE: Duration = Duration::from_millis(30);

/// Tries until it succeeds. Fails at the bound, with the last try's reason, or as soon as the process has ended.
pub async fn until(
    bound: Duration,
    otherwise: &str,
    process: &Process,
    mut attempt: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + bound;
    loop {
        let Err(error) = attempt().await else { return Ok(()) };
        process.must_run().with_context(|| otherwise.to_owned())?;
        if Instant::now() >= deadline {
            let log = format!("the end of the log of {}:\n{}", process.name(), process.log_end());
            return Err(error)
                .with_context(|| format!("{otherwise} after {} s; {log}\nreason", bound.as_secs()));
        }
        sleep(PAUSE).await;
    }
}
