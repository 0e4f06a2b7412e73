//! The TLS listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use crate::connection::Connection;
use crate::{Context, routes};

/// How long a client may take over its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that does not answer pings is gone after the sum of both.
const PING_INTERVAL: Duration = Duration::from_secs(3);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Streams of one connection: an agent has two, and calls now and then.
const STREAMS: u32 = 64;

/// Serves agents until `shutdown` is done; then streams end.
pub async fn serve(
    context: Context,
    listener: TcpListener,
    tls: Arc<tokio_rustls::rustls::ServerConfig>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let (sender, connections) = mpsc::channel(128);
    let accepting = tokio::spawn(accept(listener, TlsAcceptor::from(tls), sender));
    let result = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .max_concurrent_streams(STREAMS)
        .add_routes(routes(context))
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), shutdown)
        .await;
    accepting.abort();
    result
}

type Incoming = mpsc::Sender<Result<Connection, std::io::Error>>;

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, connections: Incoming) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(handshake(stream, peer, acceptor.clone(), connections.clone()));
            }
            Err(error) => {
                // Out of descriptors: connections end, then it goes on.
                tracing::warn!(%error, "cannot accept agents' connections");
                tokio::time::sleep(Duration::from_millis(100)).await;
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
