//! Accepts connections; each handshake is a task of its own, so that a slow client holds up nobody.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_stream::wrappers::ReceiverStream;

use crate::Connection;
use crate::route::{Route, pass_on};

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
}

impl Listener {
    /// Served by this process.
    pub fn new(socket: TcpListener, tls: Arc<ServerConfig>) -> Self {
        Self { socket, tls, route: None }
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
        let acceptor = TlsAcceptor::from(self.tls.clone());
        loop {
            let (stream, peer) = match self.socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            };
            match self.route.as_ref().map(|route| (*route.borrow(), route)) {
                None | Some((Route::Here, _)) => {
                    tokio::spawn(handshake(stream, peer, acceptor.clone(), connections.clone()));
                }
                Some((Route::At(leader), route)) => {
                    tokio::spawn(pass_on(stream, peer, leader, route.clone()));
                }
                Some((Route::Nowhere, _)) => tracing::debug!(%peer, "closed a connection: no replica leads"),
            }
        }
    }
}

async fn handshake(stream: TcpStream, peer: SocketAddr, acceptor: TlsAcceptor, connections: Incoming) {
    let _ = stream.set_nodelay(true);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let _ = connections.send(Ok(Connection::new(stream))).await;
        }
        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
    }
}
