//! Listens by UDP and TCP, and hands each request to who can answer it.
//!
//! Invariant: who waits for a resolver holds up nobody who asks for a name of the mesh.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::Query;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::dns::answer::{Transport, Verdict, Zone, answer, failure};
use crate::dns::forward::Forwarder;
use crate::dns::names::Names;
use crate::dns::resolv_conf::Resolvers;
use crate::dns::{Settings, tcp, udp};

/// How often a port is sought that is free for UDP and TCP, where any will do.
const ATTEMPTS: usize = 16;

/// Listens; not yet answering.
#[derive(Debug)]
pub struct Server {
    sockets: Vec<(UdpSocket, TcpListener)>,
    zone: Zone,
    forwarder: Forwarder,
}

/// What every request needs.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    zone: Arc<Zone>,
    names: watch::Receiver<Arc<Names>>,
    forwarder: Arc<Forwarder>,
}

impl Server {
    /// Listens where the settings say.
    pub async fn bind(settings: Settings) -> io::Result<Self> {
        let mut sockets = Vec::new();
        for address in settings.listen {
            match bind(address, settings.port).await {
                Ok(pair) => sockets.push(pair),
                Err(error) if address.is_ipv6() && is_missing(&error) => {
                    info!(%address, %error, "no IPv6 here: DNS listens without it");
                }
                Err(error) => {
                    let port = settings.port;
                    return Err(io::Error::new(
                        error.kind(),
                        format!("cannot listen for DNS at {address} port {port}: {error}"),
                    ));
                }
            }
        }
        let own: io::Result<_> = sockets.iter().map(|(udp, _)| udp.local_addr()).collect();
        let resolvers = Resolvers::new(settings.resolv_conf, settings.resolver_port, own?);
        let forwarder = Forwarder::new(resolvers, settings.patience, settings.give_up);
        Ok(Self { sockets, zone: settings.zone, forwarder })
    }

    /// Where it listens, by UDP and TCP.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|(udp, _)| udp.local_addr().ok()).collect()
    }

    /// Answers until shutdown.
    pub async fn run(self, names: watch::Receiver<Arc<Names>>, shutdown: CancellationToken) {
        let Self { sockets, zone, forwarder } = self;
        let resolver = Resolver { zone: Arc::new(zone), names, forwarder: Arc::new(forwarder) };
        let mut tasks = JoinSet::new();
        for (udp, tcp) in sockets {
            tasks.spawn(udp::serve(udp, resolver.clone()));
            tasks.spawn(tcp::serve(tcp, resolver.clone()));
        }
        shutdown.cancelled().await;
        tasks.shutdown().await; // What is open ends with the tasks.
    }
}

impl Resolver {
    /// What can be said at once.
    pub(super) fn judge(&self, request: &[u8], transport: Transport) -> Verdict {
        let names = self.names.borrow().clone();
        answer(request, transport, &self.zone, &names)
    }

    /// What others say.
    pub(super) async fn ask(&self, request: &[u8], query: &Query, transport: Transport) -> Option<Vec<u8>> {
        match self.forwarder.forward(request, query, transport).await {
            Some(answer) => Some(answer),
            None => failure(request),
        }
    }
}

async fn bind(address: IpAddr, port: u16) -> io::Result<(UdpSocket, TcpListener)> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let udp = UdpSocket::bind((address, port)).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if port != 0 || attempts == ATTEMPTS => return Err(error),
            Err(error) => warn!(%error, "trying another port"),
        }
    }
}

fn is_missing(error: &io::Error) -> bool {
    use nix::errno::Errno::{EADDRNOTAVAIL, EAFNOSUPPORT};
    let code = error.raw_os_error();
    [EADDRNOTAVAIL, EAFNOSUPPORT].into_iter().any(|errno| code == Some(errno as i32))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod upstream;
