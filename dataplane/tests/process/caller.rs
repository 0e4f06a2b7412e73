//! A workload of the same mesh that calls.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use ursa_identity::ZoneCa;
use ursa_model::{SpiffeId, TrustDomain};

use crate::mesh::LOCALHOST;

pub(crate) const HOUR: Duration = Duration::from_hours(1);

/// A workload of the same mesh that calls.
pub(crate) struct Caller {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl Caller {
    pub(crate) fn new(authority: &ZoneCa) -> Self {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap();
        let id = SpiffeId::universal(TrustDomain::new("east", "default"), "caller", "caller-1");
        let pem = authority.sign(csr.der(), &id, HOUR, Timestamp::now()).unwrap();
        Self { chain: CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect(), key }
    }

    /// A connection to the proxy, if the handshake begins well.
    pub(crate) async fn connect(&self, port: u16) -> Option<TlsStream<TcpStream>> {
        self.handshake(TcpStream::connect((LOCALHOST, port)).await.ok()?, b"ursa").await
    }

    /// The same with this protocol, over a connection that is there.
    pub(crate) async fn handshake(&self, tcp: TcpStream, alpn: &[u8]) -> Option<TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Later(provider)))
            .with_client_auth_cert(self.chain.clone(), key)
            .unwrap();
        config.alpn_protocols = vec![alpn.to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector.connect(ServerName::try_from("mesh").unwrap(), tcp).await.ok()
    }

    /// A connection over which the application has said its name (see [`crate::mesh::echo`]).
    pub(crate) async fn greeted(&self, port: u16) -> Option<TlsStream<TcpStream>> {
        let mut stream = self.connect(port).await?;
        let mut name = [0; 3];
        stream.read_exact(&mut name).await.ok()?;
        assert_eq!(&name, b"app");
        Some(stream)
    }

    /// The proxy's certificate, if the application behind it is reached.
    pub(crate) async fn meets(&self, port: u16) -> Option<CertificateDer<'static>> {
        Some(self.greeted(port).await?.get_ref().1.peer_certificates()?.first()?.clone())
    }

    /// The status of an answer to an HTTP request.
    pub(crate) async fn status(&self, port: u16) -> Option<u16> {
        let mut stream = self.connect(port).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.ok()?;
        let mut head = [0; "HTTP/1.1 200".len()];
        stream.read_exact(&mut head).await.ok()?;
        str::from_utf8(&head).ok()?.strip_prefix("HTTP/1.1 ")?.parse().ok()
    }
}

/// Leaves the check of the chain to the test, which looks at the certificate.
#[derive(Debug)]
struct Later(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Later {
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
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
