//! A TLS connection that tells requests which certificates its peer holds the key of.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::silence::Silence;

/// The peer's certificates, leaf first; empty if it showed none. Not verified yet.
#[derive(Clone, Debug)]
pub struct PeerCertificates(pub Arc<[CertificateDer<'static>]>);

/// A TLS connection with its peer's certificates.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: PeerCertificates,
    silence: Option<Silence>,
}

impl Connection {
    /// `silence`: how long nothing may be heard.
    pub(crate) fn new(stream: TlsStream<TcpStream>, silence: Option<Duration>) -> Self {
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let peer = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Self { stream, peer: PeerCertificates(peer), silence: silence.map(Silence::new) }
    }
}

impl Connected for Connection {
    type ConnectInfo = PeerCertificates;

    fn connect_info(&self) -> PeerCertificates {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        match &mut this.silence {
            None => read,
            Some(silence) if read.is_ready() => {
                silence.is_broken();
                read
            }
            Some(silence) => Poll::Ready(Err(ready!(silence.poll(cx)))),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Some(silence) = self.silence.as_mut().filter(|_| written.is_ready()) {
            silence.is_broken();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
