//! Accepts connections; each handshake is a task of its own, so that a slow client holds up nobody.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_stream::wrappers::ReceiverStream;

use crate::Connection;

/// How long a client may take over its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait when the process has no descriptors left.
const BREATH: Duration = Duration::from_millis(100);
/// Connections that wait for the server.
const BACKLOG: usize = 128;

type Incoming = mpsc::Sender<io::Result<Connection>>;

/// Connections as they come, until the returned stream is dropped.
pub(crate) fn start(listener: TcpListener, tls: Arc<ServerConfig>) -> ReceiverStream<io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        tokio::select! {
            () = accept(listener, TlsAcceptor::from(tls), &sender) => {}
            () = sender.closed() => {}
        }
    });
    ReceiverStream::new(receiver)
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, connections: &Incoming) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(handshake(stream, peer, acceptor.clone(), connections.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(BREATH).await;
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
