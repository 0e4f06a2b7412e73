//! A client of the mesh made by hand: it shows any certificate, or none, and does not care who answers.
//!
//! The scenario and the tests need it to show that it is the certificate that opens the door.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long to wait for a connection, and to listen for a first byte.
const PATIENCE: Duration = Duration::from_secs(1);

/// A certificate with its key, signed by whatever authority one has.
#[derive(Debug)]
pub struct Peer {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Peer {
    /// For this identity, signed by an authority: its certificate, the root above it if there is one, and its key in
    /// one PEM text.
    pub fn forge(authority_pem: &str, spiffe_id: &str) -> anyhow::Result<Self> {
        let (certificates, key) =
            authority_pem.split_once("-----BEGIN PRIVATE KEY").context("no key in the PEM")?;
        let issuer = KeyPair::from_pem(&format!("-----BEGIN PRIVATE KEY{key}"))?;
        let issuer = Issuer::from_ca_cert_pem(certificates, issuer)?;
        // An authority below a root shows itself too.
        let mut above: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(certificates.as_bytes()).collect::<Result<_, _>>()?;
        above.pop();
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(spiffe_id.try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &issuer)?;
        Ok(Self {
            chain: std::iter::once(leaf.der().clone()).chain(above).collect(),
            key: key.serialize_der().try_into().map_err(anyhow::Error::msg)?,
        })
    }

    /// What the server answers to these words, up to the first read; empty if it says nothing.
    pub async fn hears(&self, address: SocketAddr, words: &[u8]) -> anyhow::Result<String> {
        let mut config = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![b"ursa".to_vec()];
        let tcp = connect(address).await?;
        let name = ServerName::try_from("mesh.invalid")?;
        let mut heard = Vec::new();
        let exchange = async {
            let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
            stream.write_all(words).await?;
            stream.read_buf(&mut heard).await
        };
        // A refusal is an alert, a reset or silence; what counts is what came before it.
        let _ = timeout(PATIENCE, exchange).await;
        Ok(String::from_utf8_lossy(&heard).into_owned())
    }
}

/// What a server says to somebody without TLS who says these words, or nothing; a TLS alert counts as nothing.
pub async fn hears_in_the_clear(address: SocketAddr, words: &[u8]) -> anyhow::Result<String> {
    /// RFC 8446, section 5.1: the type of an alert's record.
    const ALERT: u8 = 21;
    let mut stream = connect(address).await?;
    let mut heard = Vec::new();
    let exchange = async {
        stream.write_all(words).await?;
        stream.read_buf(&mut heard).await
    };
    let _ = timeout(PATIENCE, exchange).await;
    if heard.first() == Some(&ALERT) {
        heard.clear();
    }
    Ok(String::from_utf8_lossy(&heard).into_owned())
}

async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    timeout(PATIENCE, TcpStream::connect(address))
        .await
        .with_context(|| format!("cannot connect to {address} in time"))?
        .with_context(|| format!("cannot connect to {address}"))
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        verify_tls12_signature(message, certificate, signature, &provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        verify_tls13_signature(message, certificate, signature, &provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
