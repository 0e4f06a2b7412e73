//! TLS connections of the test's control plane, with the certificate that the client presented.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

/// Whether the client presented a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Presented(pub(crate) bool);

pub(crate) struct Connection(TlsStream<TcpStream>);

impl Connected for Connection {
    type ConnectInfo = Presented;

    fn connect_info(&self) -> Presented {
        Presented(self.0.get_ref().1.peer_certificates().is_some())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Connections whose handshake succeeded.
pub(crate) fn connections(
    listener: TcpListener,
    config: Arc<rustls::ServerConfig>,
) -> impl Stream<Item = io::Result<Connection>> {
    let acceptor = TlsAcceptor::from(config);
    let accepted = futures::stream::unfold(listener, |listener| async {
        let (stream, _) = listener.accept().await.ok()?;
        Some((stream, listener))
    });
    accepted
        .map(move |stream| acceptor.accept(stream))
        .buffer_unordered(16)
        .filter_map(|accepted| std::future::ready(accepted.ok().map(|stream| Ok(Connection(stream)))))
}
