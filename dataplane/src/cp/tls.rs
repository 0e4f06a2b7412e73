//! TLS to the control plane: trusted by the given file alone, HTTP/2, with the workload's certificate if there is one.
//!
//! Invariant: there is no way to connect without verifying the peer.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use ursa_proto::keepalive;

use crate::certificates::store::Held;
use crate::config::CpAddress;
use crate::cp::End;

/// Bound for TCP and TLS together.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// Why TLS cannot even begin.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA file is not readable.
    #[error("cannot read the CA file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The CA file holds no certificate.
    #[error("the CA file {path} holds no certificate that can be used (PEM)")]
    NoRoots {
        /// The file.
        path: PathBuf,
    },
    /// Name, key or certificate do not fit TLS.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// Where the certificates are by which the control plane is trusted.
#[derive(Clone, Debug)]
pub enum Trust {
    /// In a file, read anew for each connection.
    File(PathBuf),
    /// In this text, PEM.
    Pem(String),
}

impl Trust {
    /// The certificates as they are now.
    pub fn roots(&self) -> Result<RootCertStore, TlsError> {
        let (path, pem) = match self {
            Self::Pem(pem) => (Path::new("--ca-pem"), pem.clone().into_bytes()),
            Self::File(path) => {
                let io = |source| TlsError::Io { path: path.clone(), source };
                (path.as_path(), std::fs::read(path).map_err(io)?)
            }
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
        if roots.is_empty() { Err(TlsError::NoRoots { path: path.to_owned() }) } else { Ok(roots) }
    }
}

fn config(roots: RootCertStore, held: Option<&Held>) -> Result<ClientConfig, TlsError> {
    let setup = |error: &dyn std::fmt::Display| TlsError::Setup(error.to_string());
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match held {
        None => builder.with_no_client_auth(),
        Some(held) => {
            let chain = CertificateDer::pem_slice_iter(held.chain_pem.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| setup(&error))?;
            let key =
                PrivateKeyDer::from_pem_slice(held.key_pem.as_bytes()).map_err(|error| setup(&error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| setup(&error))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Connects; the channel is up when this returns.
pub(super) async fn connect(
    address: &CpAddress,
    roots: RootCertStore,
    held: Option<&Held>,
) -> Result<Channel, End> {
    let connector = TlsConnector::from(Arc::new(config(roots, held)?));
    let name = ServerName::try_from(address.host.clone()).map_err(|_| {
        TlsError::Setup(format!("{:?} is neither a host name nor an IP address", address.host))
    })?;
    let target = (address.host.clone(), address.port);
    let dial = service_fn(move |_| {
        let (connector, name, target) = (connector.clone(), name.clone(), target.clone());
        async move {
            let dial = async {
                let tcp = TcpStream::connect(target).await?;
                tcp.set_nodelay(true)?;
                keepalive::watch(&tcp)?;
                connector.connect(name, tcp).await
            };
            timeout(CONNECT_WITHIN, dial).await?.map(TokioIo::new)
        }
    });
    // TLS is the connector's; the endpoint's scheme only says what the calls carry.
    let origin = format!("https://{address}").parse().map_err(|error| TlsError::Setup(format!("{error}")))?;
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| TlsError::Setup(error.to_string()))?
        .origin(origin);
    keepalive::pinging(endpoint)
        .connect_with_connector(dial)
        .await
        .map_err(|error| End::Connect(innermost(&error)))
}

/// tonic says "transport error"; the reason is at the end of its chain.
fn innermost(mut error: &dyn std::error::Error) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
