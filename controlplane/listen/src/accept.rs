//! Accepts connections; each handshake is a task of its own, so that a slow client holds up nobody.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_stream::wrappers::ReceiverStream;
use ursa_proto::keepalive;

use crate::Connection;
use crate::route::{LED_WITHIN, Leader, Route, leader, pass_on};

/// How long a client may take over its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait when the process has no descriptors left.
const BREATH: Duration = Duration::from_millis(100);
/// Connections that wait for the server.
const BACKLOG: usize = 128;

type Incoming = mpsc::Sender<io::Result<Connection>>;

/// A socket whose clients speak TLS.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: Arc<ServerConfig>,
    route: Option<watch::Receiver<Route>>,
    /// How long a client may say nothing.
    silence: Option<Duration>,
}

impl Listener {
    /// Served by this process.
    pub fn new(socket: TcpListener, tls: Arc<ServerConfig>) -> Self {
        Self { socket, tls, route: None, silence: None }
    }

    /// Served where the route says; always here if there is none.
    #[must_use]
    pub fn routed(self, route: Option<watch::Receiver<Route>>) -> Self {
        Self { route, ..self }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Its clients ping: whoever does not, or whose machine is gone, is let go.
    pub(crate) fn watched(self) -> Self {
        if let Err(error) = keepalive::watch(&self.socket) {
            tracing::warn!(%error, "the kernel does not watch connections: a machine that is gone is noticed late");
        }
        Self { silence: Some(keepalive::PING_EVERY + keepalive::PING_TIMEOUT), ..self }
    }

    /// Connections as they come, until the returned stream is dropped.
    pub fn connections(self) -> ReceiverStream<io::Result<Connection>> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        tokio::spawn(async move {
            tokio::select! {
                () = self.accept(&sender) => {}
                () = sender.closed() => {}
            }
        });
        ReceiverStream::new(receiver)
    }

    async fn accept(&self, connections: &Incoming) {
        let server =
            Server { tls: self.tls.clone().into(), silence: self.silence, connections: connections.clone() };
        loop {
            let (stream, peer) = match self.socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            };
            let server = server.clone();
            match &self.route {
                None => tokio::spawn(server.handshake(stream, peer)),
                Some(route) => tokio::spawn(routed(stream, peer, route.clone(), server)),
            };
        }
    }
}

/// Serves the connection here or passes it on, as soon as one or the other is possible.
async fn routed(stream: TcpStream, peer: SocketAddr, mut route: watch::Receiver<Route>, here: Server) {
    match leader(peer, &mut route, LED_WITHIN).await {
        Some(Leader::Here) => here.handshake(stream, peer).await,
        Some(Leader::There(leader, there)) => pass_on(stream, peer, leader, there, route).await,
        None => {}
    }
}

/// What serves connections here.
#[derive(Clone)]
struct Server {
    tls: TlsAcceptor,
    silence: Option<Duration>,
    connections: Incoming,
}

impl Server {
    async fn handshake(self, stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nodelay(true);
        match timeout(HANDSHAKE_TIMEOUT, self.tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                let _ = self.connections.send(Ok(Connection::new(stream, self.silence))).await;
            }
            Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
        }
    }
}
