//! A client's connection: TLS, with its certificate once it has one, and every byte of it counted.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::task::AtomicWaker;
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::leaf::Leaf;

/// Bound for TCP and TLS together: the control plane's own for handshakes. Agents wait less, but have a host each.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// As agents do.
const PING_EVERY: Duration = Duration::from_secs(2);
/// All clients share the machine with the control plane: a busy one is not a dead one.
const PING_WITHIN: Duration = Duration::from_secs(20);

/// What goes over a client's connections.
#[derive(Debug, Default)]
pub struct Wire {
    bytes: AtomicU64,
    stopped: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Wire {
    /// Bytes so far, in both directions, above TCP.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Stops, or goes on: while it is stopped nothing is read or written, as of a process that got SIGSTOP.
    pub fn stop(&self, stopped: bool) {
        self.stopped.store(stopped, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
    }

    /// Pending while it is stopped; the waker is kept before the look, so that no change is missed.
    fn poll_goes_on(&self, waker: &AtomicWaker, cx: &Context<'_>) -> Poll<()> {
        waker.register(cx.waker());
        if self.stopped.load(Ordering::Acquire) { Poll::Pending } else { Poll::Ready(()) }
    }

    fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// How the agents' server is reached.
#[derive(Clone, Debug)]
pub struct Dialer {
    address: SocketAddr,
    roots: Arc<RootCertStore>,
    without_certificate: Arc<ClientConfig>,
}

impl Dialer {
    /// Trusts the certificates in a PEM file.
    pub fn new(address: SocketAddr, ca_file: &Path) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        let read = CertificateDer::pem_file_iter(ca_file);
        let read = read.with_context(|| format!("cannot read {}", ca_file.display()))?;
        roots.add_parsable_certificates(read.filter_map(Result::ok));
        ensure!(!roots.is_empty(), "{} holds no certificate", ca_file.display());
        let roots = Arc::new(roots);
        let builder = ClientConfig::builder().with_root_certificates(roots.clone());
        Ok(Self { address, roots, without_certificate: Arc::new(http2(builder.with_no_client_auth())) })
    }

    /// Connects; shows the certificate if there is one. Each handshake is a full one, as those of many hosts are.
    pub async fn dial(&self, leaf: Option<&Leaf>, wire: &Arc<Wire>) -> anyhow::Result<Channel> {
        let config = match leaf {
            None => self.without_certificate.clone(),
            Some(leaf) => {
                let (chain, key) = leaf.parts();
                let builder = ClientConfig::builder().with_root_certificates(self.roots.clone());
                Arc::new(http2(builder.with_client_auth_cert(chain, key)?))
            }
        };
        let (address, wire) = (self.address, wire.clone());
        let dial = service_fn(move |_| {
            let (connector, wire) = (TlsConnector::from(config.clone()), wire.clone());
            async move {
                let dial = async {
                    let tcp = TcpStream::connect(address).await?;
                    tcp.set_nodelay(true)?;
                    let name = ServerName::from(address.ip());
                    connector.connect(name, Counted { tcp, wire }).await
                };
                timeout(CONNECT_WITHIN, dial).await?.map(TokioIo::new)
            }
        });
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WITHIN)
            .keep_alive_while_idle(true)
            .connect_with_connector(dial)
            .await;
        channel.context("cannot connect")
    }
}

fn http2(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// A TCP connection whose bytes are counted, and which can be stopped.
#[derive(Debug)]
struct Counted {
    tcp: TcpStream,
    wire: Arc<Wire>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.wire.poll_goes_on(&self.wire.reader, cx));
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        self.wire.count(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.wire.poll_goes_on(&self.wire.writer, cx));
        let written = ready!(Pin::new(&mut self.tcp).poll_write(cx, buf))?;
        self.wire.count(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
