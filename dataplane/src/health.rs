//! What the kubelet asks of a sidecar: whether the proxy is ready, and the application's own probes, which mutual TLS
//! would otherwise keep out.
//!
//! [`probes`] is the table of them, [`check`] runs one as the kubelet would, [`server`] answers.
//! Invariant: only what is in the table can be reached through it, and of that only whether it is well.

pub mod check;
pub mod probes;
pub mod server;

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use probes::Probes;
pub use server::Server;

/// What the server needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen; `0.0.0.0` means every address, also of IPv6 where there is any.
    pub address: SocketAddr,
    /// Where the application is probed: the pod's own address.
    pub application: IpAddr,
    /// The application's probes.
    pub probes: Probes,
}

/// What decides whether the proxy is ready.
#[derive(Clone, Debug)]
pub struct State {
    /// Whether Envoy has taken everything it was sent, and serves.
    pub serving: watch::Receiver<bool>,
    /// Cancelled when the proxy begins to drain.
    pub draining: CancellationToken,
}

/// Serves until shutdown. Fails if it cannot listen.
pub async fn serve(settings: Settings, state: State, shutdown: CancellationToken) -> io::Result<()> {
    Server::bind(settings).await?.run(state, shutdown).await;
    Ok(())
}
