//! The server's certificate.

use std::sync::Arc;

use anyhow::Context as _;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::RunArgs;
use crate::files::{self, Content};
use crate::metrics::{File, Metrics};

/// How connections are accepted; `None` until a certificate was read.
pub(crate) type Tls = watch::Receiver<Option<Arc<ServerConfig>>>;

/// Reads certificate and key, and again whenever they change. What cannot be used leaves the last good ones in force: both
/// files may have been read in the midst of a change, and are then read again.
pub(crate) fn follow(args: &RunArgs, metrics: Arc<Metrics>, tasks: &mut JoinSet<()>) -> Tls {
    let (sender, receiver) = watch::channel(None);
    let paths = vec![args.tls_cert_file.clone(), args.tls_key_file.clone()];
    tasks.spawn(files::follow(paths, move |content| match read(content) {
        Ok((config, expires)) => {
            metrics.loaded(File::Certificate, true);
            metrics.certificate_expires(expires);
            tracing::info!(expires, "serving with a new certificate");
            sender.send_replace(Some(Arc::new(config)));
        }
        Err(error) => {
            metrics.loaded(File::Certificate, false);
            let in_force = sender.borrow().is_some();
            tracing::error!(error = format!("{error:#}"), in_force, "cannot use the certificate");
        }
    }));
    receiver
}

/// How connections are accepted, and when the certificate expires, in seconds since 1970.
fn read(content: &Content) -> anyhow::Result<(ServerConfig, i64)> {
    let content = content.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
    let [chain, key] = content.as_slice() else { anyhow::bail!("a certificate and a key are needed") };
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().context("in the certificate file")?;
    let first = chain.first().context("the certificate file holds no certificate in PEM")?;
    let (_, certificate) = x509_parser::parse_x509_certificate(first).context("in the certificate file")?;
    let expires = certificate.validity().not_after.timestamp();
    let key = PrivateKeyDer::from_pem_slice(key).context("in the key file")?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("certificate and key do not go together")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((config, expires))
}
