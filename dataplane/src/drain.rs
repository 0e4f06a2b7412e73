//! The end of a proxy, in order: callers go elsewhere, inbound connections finish, outbound ones do, Envoy stops.
//!
//! Invariant: it takes at most [`ANNOUNCED_WITHIN`] and the drain time, and a few answers of Envoy.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::Admin;

/// How long the control plane may take to take the endpoints out.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(2);

/// Time between two looks at the open connections.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a drain needs to know of the rest.
#[derive(Clone, Debug)]
pub struct Drain {
    /// Cancelled here: the control plane is to be told.
    pub draining: CancellationToken,
    /// Cancelled by the session: the control plane has been told, or cannot be.
    pub announced: CancellationToken,
    /// Envoy.
    pub admin: Admin,
    /// Bound for the connections to finish.
    pub drain_time: Duration,
}

impl Drain {
    /// Drains; afterwards Envoy can be stopped.
    pub async fn run(self) {
        let Self { draining, announced, admin, drain_time } = self;
        draining.cancel();
        if timeout(ANNOUNCED_WITHIN, announced.cancelled()).await.is_err() {
            warn!("the control plane did not confirm that callers go elsewhere; draining all the same");
        }
        let end = Instant::now() + drain_time;
        if let Err(error) = admin.drain_inbound().await {
            warn!(%error, "cannot drain Envoy's inbound listeners");
            return;
        }
        // The workload's own calls go on while it finishes what it was asked; half of the time is for that.
        finish(&admin, Instant::now() + drain_time / 2).await;
        if let Err(error) = admin.stop_listeners().await {
            warn!(%error, "cannot close Envoy's listeners");
            return;
        }
        finish(&admin, end).await;
    }
}

/// Waits until no connection is open, or the time is over.
async fn finish(admin: &Admin, end: Instant) {
    loop {
        match admin.open_connections().await {
            Ok(0) => return,
            Ok(open) if Instant::now() >= end => {
                info!(open, "the drain time is over");
                return;
            }
            Ok(_) => {}
            Err(error) => {
                warn!(%error, "cannot tell how many connections are open");
                sleep_until(end).await;
                return;
            }
        }
        sleep(LOOK_EVERY).await;
    }
}
