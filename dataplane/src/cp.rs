//! The control plane: one connection, with a session and a delta ADS stream on it, opened again whenever it ends.
//!
//! Invariant: the connection's end changes nothing for Envoy.

mod link;
mod session;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tracing::{debug, error, info, warn};
use ursa_proto::agent::Hello;

use crate::backoff::{Backoff, LONGEST};
use crate::certificates::renewal::Announced;
use crate::certificates::store::Held;
use crate::config::CpAddress;
use crate::dns::Names;
use crate::peers::PeerCounter;
use crate::probe::Readiness;
use crate::xds::engine::Handle;

pub use link::Link;
pub use tls::{TlsError, Trust};

/// A connection that lasted this long was a good one.
const STEADY: Duration = Duration::from_secs(5);

/// What the connection needs of the rest.
pub struct ControlPlane {
    /// Where it is.
    pub address: CpAddress,
    /// By what it is trusted.
    pub trust: Trust,
    /// Who this is, as long as there is no certificate.
    pub token_file: PathBuf,
    /// The first message of each session.
    pub hello: Hello,
    /// The certificate in use.
    pub held: watch::Receiver<Option<Arc<Held>>>,
    /// What the application's probes say.
    pub readiness: watch::Receiver<Readiness>,
    /// Whom its inbounds let in without an identity of the mesh.
    pub peers: watch::Receiver<PeerCounter>,
    /// What the control plane wants the proxy to have.
    pub announced: watch::Sender<Option<Announced>>,
    /// What the control plane says of names.
    pub names: watch::Sender<Arc<Names>>,
    /// The connection, while there is one.
    pub link: watch::Sender<Option<Link>>,
    /// The relay.
    pub engine: Handle,
    /// Cancelled when the proxy begins to drain.
    pub draining: CancellationToken,
    /// To be cancelled when the control plane knows of that, or can't be told.
    pub announced_drain: CancellationToken,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("{}", .0.message())]
    Refused(#[from] Status),
    #[error("the control plane ended the session")]
    Closed,
    #[error("the configuration is asked for anew")]
    Anew,
    #[error("the token is not accepted any more")]
    Token,
    #[error("the control plane knows that this proxy drains")]
    Drained,
}

impl End {
    /// The control plane's no: trying again soon changes nothing.
    fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused(status) if matches!(status.code(),
            Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated))
    }

    /// The control plane has the agent come again, to share its replicas: all is well.
    fn is_of_age(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code() == Code::Aborted)
    }

    /// The connection itself did not work, maybe because of the certificate.
    fn is_below_the_control_plane(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::Connect(_))
            || matches!(self, Self::Refused(status) if matches!(status.code(), Code::Unavailable | Code::Unknown))
    }
}

impl ControlPlane {
    /// Keeps the connection until shutdown.
    pub async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            () = self.keep() => shutdown.cancelled().await,
            () = shutdown.cancelled() => {}
        }
    }

    /// Returns when the proxy drains.
    async fn keep(&mut self) {
        let mut backoff = Backoff::default();
        let mut said = String::new();
        let mut without_certificate = false;
        loop {
            let started = std::time::Instant::now();
            let held = self.held.borrow().clone();
            let held = held.filter(|held| held.leaf.not_after > SystemTime::now());
            let presented = held.filter(|_| !without_certificate);
            let presents = presented.is_some();
            let withheld = without_certificate;
            let end = match Box::pin(self.once(presented)).await {
                Ok(never) => match never {},
                Err(end) => end,
            };
            self.link.send_replace(None);
            if matches!(end, End::Drained) || self.draining.is_cancelled() {
                self.announced_drain.cancel();
                return;
            }
            if started.elapsed() > STEADY || matches!(end, End::Anew) {
                backoff.reset();
                said.clear();
            }
            // A certificate that the other side does not take (any more) must not lock the proxy out: the token may do.
            without_certificate = presents && end.is_below_the_control_plane();
            report(&end, &mut said, &self.address);
            // With the certificate it may be welcome.
            let delay = if end.is_permanent() && !withheld { LONGEST } else { backoff.pause() };
            tokio::select! {
                () = sleep(delay) => {}
                () = self.draining.cancelled() => {
                    self.announced_drain.cancel();
                    return;
                }
            }
        }
    }

    /// One connection, to its end.
    async fn once(&mut self, held: Option<Arc<Held>>) -> Result<std::convert::Infallible, End> {
        let roots = self.trust.roots()?;
        let channel = tls::connect(&self.address, roots, held.as_deref()).await?;
        let link = Link::new(channel, self.token_file.clone(), held.is_some());
        let mut session = session::Session::open(&link, self.hello.clone()).await?;
        info!(address = %self.address, node_id = session.node_id, zone = session.zone, "connected to the control plane");
        let node_id = session.node_id.clone();
        let link = link.named(&node_id);
        self.link.send_replace(Some(link.clone()));
        tokio::select! {
            end = session.run(&mut self.readiness, &mut self.peers, &self.announced, &self.names, &self.draining) => Err(end),
            result = Box::pin(crate::xds::upstream::run(&link, node_id, &self.engine)) => match result {
                // The session tells the end of a drain; the streams may end in any order.
                _ if self.draining.is_cancelled() => Err(End::Drained),
                Ok(()) => Err(End::Anew),
                Err(status) => Err(status.into()),
            },
            () = link.token_is_refused() => Err(End::Token),
        }
    }
}

/// Logs an end, once for each reason.
fn report(end: &End, said: &mut String, address: &CpAddress) {
    let reason = end.to_string();
    if *said == reason {
        debug!(%address, reason, "still not connected to the control plane");
        return;
    }
    if end.is_of_age() {
        info!(%address, reason, "connecting to the control plane anew");
    } else if end.is_permanent() {
        error!(%address, reason, "the control plane refuses this proxy; trying again every {} s", LONGEST.as_secs());
    } else {
        warn!(%address, reason, "not connected to the control plane; Envoy goes on with what it has");
    }
    *said = reason;
}
