//! Callers that never stop, so that a change that costs a request is seen.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use crate::answer;

/// One caller after the other's answer at each address, until [`Self::stop`].
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    answered: u64,
    failures: Vec<String>,
}

impl Load {
    /// Starts calling.
    pub fn start(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for address in addresses {
            let stop = stop.clone();
            callers.spawn(async move {
                let mut calls = Calls::default();
                while !stop.load(Ordering::Relaxed) {
                    match answer(address).await {
                        Ok(_) => calls.answered += 1,
                        Err(error) => calls.failures.push(format!("{address}: {error:#}")),
                    }
                }
                calls
            });
        }
        Self { stop, callers }
    }

    /// Ends the calls; how many were answered. Fails if one was not.
    pub async fn stop(self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let all = self.callers.join_all().await;
        let answered = all.iter().map(|calls| calls.answered).sum();
        let failures: Vec<&String> = all.iter().flat_map(|calls| &calls.failures).collect();
        anyhow::ensure!(
            failures.is_empty(),
            "{} of {} calls failed; the first: {}",
            failures.len(),
            failures.len() as u64 + answered,
            failures.iter().take(3).map(|text| text.as_str()).collect::<Vec<_>>().join("; ")
        );
        Ok(answered)
    }
}
