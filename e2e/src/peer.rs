//! A client of the mesh made by hand: it shows any certificate, and does not care who answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long to listen for a first byte.
const PATIENCE: Duration = Duration::from_secs(2);

/// A certificate with its key, signed by whatever authority one has.
#[derive(Debug)]
pub struct Peer {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Peer {
    /// For this identity, signed by an authority: its certificate and key in one PEM text.
    pub fn forge(authority_pem: &str, spiffe_id: &str) -> anyhow::Result<Self> {
        let (certificate, key) =
            authority_pem.split_once("-----BEGIN PRIVATE KEY").context("no key in the PEM")?;
        let issuer = KeyPair::from_pem(&format!("-----BEGIN PRIVATE KEY{key}"))?;
        let issuer = Issuer::from_ca_cert_pem(certificate, issuer)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(spiffe_id.try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &issuer)?;
        Ok(Self {
            chain: vec![leaf.der().clone()],
            key: key.serialize_der().try_into().map_err(anyhow::Error::msg)?,
        })
    }

    /// What a server that speaks first says to it; empty if it says nothing.
    pub async fn hears(&self, address: SocketAddr) -> anyhow::Result<String> {
        let mut config = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![b"ursa".to_vec()];
        let tcp = TcpStream::connect(address).await?;
        let mut text = String::new();
        let exchange = async {
            let name = ServerName::try_from("mesh.invalid")?;
            let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
            stream.read_to_string(&mut text).await?;
            anyhow::Ok(())
        };
        // A refusal is an alert, a reset or silence; what counts is what came before it.
        let _ = tokio::time::timeout(PATIENCE, exchange).await;
        Ok(text)
    }
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
