//! How a process reaches a control plane: TLS, trusted by an explicit CA file alone, and HTTP/2.
//!
//! Invariant: there is no way to connect without verifying the peer.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::keepalive;

/// Bound for TCP and TLS together.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The CA file is not readable.
    #[error("cannot read the CA file {path}: {source}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The CA file holds no certificate.
    #[error("the CA file {0} holds no certificate that can be used (PEM)")]
    NoRoots(PathBuf),
    /// The address is not one.
    #[error("{0:?} is not an address of the form https://HOST:PORT")]
    Address(String),
    /// What the peer's certificate is to be for is no name.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Name(String),
    /// The peer cannot be reached, or is not who it should be.
    #[error("{0}")]
    Unreachable(String),
}

/// Connects to `https://HOST:PORT` (or `grpcs://HOST:PORT`), trusting the certificates in a PEM file; the channel is up
/// when this returns.
pub async fn connect(address: &str, ca_file: &Path) -> Result<Channel, ConnectError> {
    dial(address, None, ca_file).await
}

/// The same where the certificate is for another name than the address: that of one of several that share it.
pub async fn connect_as(address: &str, name: &str, ca_file: &Path) -> Result<Channel, ConnectError> {
    dial(address, Some(name), ca_file).await
}

async fn dial(address: &str, name: Option<&str>, ca_file: &Path) -> Result<Channel, ConnectError> {
    let bad_address = || ConnectError::Address(address.to_owned());
    let rest = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("grpcs://"))
        .ok_or_else(bad_address)?;
    let uri: Uri = format!("http://{}", rest.trim_end_matches('/')).parse().map_err(|_| bad_address())?;
    let (host, port) = (uri.host().ok_or_else(bad_address)?, uri.port_u16().ok_or_else(bad_address)?);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = match name {
        Some(name) => {
            ServerName::try_from(name.to_owned()).map_err(|_| ConnectError::Name(name.to_owned()))?
        }
        None => ServerName::try_from(host.clone()).map_err(|_| bad_address())?,
    };

    let mut config = ClientConfig::builder().with_root_certificates(roots(ca_file)?).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let dial = service_fn(move |_| {
        let (connector, name, host) = (connector.clone(), name.clone(), host.clone());
        async move {
            let dial = async {
                let tcp = TcpStream::connect((host, port)).await?;
                tcp.set_nodelay(true)?;
                keepalive::watch(&tcp)?;
                connector.connect(name, tcp).await
            };
            timeout(CONNECT_WITHIN, dial).await?.map(TokioIo::new)
        }
    });
    keepalive::pinging(Endpoint::from(uri))
        .connect_with_connector(dial)
        .await
        .map_err(|error| ConnectError::Unreachable(innermost(&error)))
}

fn roots(ca_file: &Path) -> Result<RootCertStore, ConnectError> {
    let pem =
        std::fs::read(ca_file).map_err(|source| ConnectError::CaFile { path: ca_file.to_owned(), source })?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    if roots.is_empty() { Err(ConnectError::NoRoots(ca_file.to_owned())) } else { Ok(roots) }
}

/// tonic says "transport error"; the reason is at the end of its chain.
fn innermost(mut error: &dyn std::error::Error) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
