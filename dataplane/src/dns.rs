//! The mesh's DNS: names of its zone are answered from a table, all others are passed to the system's resolvers.
//!
//! [`names`] is the table, [`answer`] decides (values in, values out), [`forward`] asks the resolvers that
//! [`resolv_conf`] names, [`server`] listens, [`store`] keeps the table.
//! Invariant: a name of the zone is never asked of others.

pub mod answer;
pub mod forward;
pub mod names;
pub mod resolv_conf;
pub mod server;
pub mod store;

mod tcp;
mod udp;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use answer::Zone;
pub use names::{Addresses, Names};
pub use server::Server;

/// Where capture sends DNS.
pub const PORT: u16 = 15053;

/// What the server needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen, by UDP and TCP. IPv6 is left out where the system has none.
    pub listen: Vec<IpAddr>,
    /// The port there; 0: any.
    pub port: u16,
    /// The mesh's zone.
    pub zone: Zone,
    /// The file that names the resolvers for everything else.
    pub resolv_conf: PathBuf,
    /// Their port.
    pub resolver_port: u16,
    /// How long a resolver may take before the next one is asked too.
    pub patience: Duration,
    /// When the client is told that nobody answers: before it gives up itself.
    pub give_up: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            port: PORT,
            zone: Zone::default(),
            resolv_conf: "/etc/resolv.conf".into(),
            resolver_port: 53,
            patience: Duration::from_secs(1),
            give_up: Duration::from_millis(4500), // The C libraries wait for 5 s.
        }
    }
}

/// Serves until shutdown. Fails if it cannot listen.
pub async fn serve(
    settings: Settings,
    names: watch::Receiver<Arc<Names>>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    Server::bind(settings).await?.run(names, shutdown).await;
    Ok(())
}
