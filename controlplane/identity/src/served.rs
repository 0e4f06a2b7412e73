//! The certificate that a server shows, which can be replaced while it serves.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName as TlsName, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use crate::ServerTlsError;
use crate::pem;

/// Whether a server asks clients for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCerts {
    /// It does not.
    None,
    /// It does, and accepts any whose key the client proves to hold: the application checks the chain.
    Requested,
}

/// The certificate that a server shows; cheap to clone, all clones are one.
#[derive(Clone, Debug)]
pub struct ServedCertificate(Arc<RwLock<Arc<CertifiedKey>>>);

impl ServedCertificate {
    /// Of a chain and its key, both PEM.
    pub fn new(chain_pem: &str, key_pem: &str) -> Result<Self, ServerTlsError> {
        Ok(Self(Arc::new(RwLock::new(Arc::new(certified(chain_pem, key_pem)?)))))
    }

    /// Shows another from the next handshake on; what is wrong with it changes nothing.
    pub fn replace(&self, chain_pem: &str, key_pem: &str) -> Result<(), ServerTlsError> {
        let key = Arc::new(certified(chain_pem, key_pem)?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = key;
        Ok(())
    }

    /// For a server that speaks these protocols (ALPN), best first.
    pub fn rustls_server_config(
        &self,
        clients: ClientCerts,
        alpn: &[&[u8]],
    ) -> Result<Arc<ServerConfig>, ServerTlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = match clients {
            ClientCerts::None => builder.with_no_client_auth(),
            ClientCerts::Requested => builder.with_client_cert_verifier(Arc::new(AnyHolder { algorithms })),
        };
        let mut config = builder.with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for ServedCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Checks that the key is the certificate's.
fn certified(chain_pem: &str, key_pem: &str) -> Result<CertifiedKey, ServerTlsError> {
    let unreadable = |error: rustls_pki_types::pem::Error| ServerTlsError::Stored(error.to_string());
    let chain = pem::certificates(chain_pem).map_err(unreadable)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(unreadable)?;
    Ok(CertifiedKey::from_der(chain, key, &rustls::crypto::aws_lc_rs::default_provider())?)
}

/// Accepts no certificate, or any whose key the client holds.
#[derive(Debug)]
struct AnyHolder {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyHolder {
    fn root_hint_subjects(&self) -> &[TlsName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
