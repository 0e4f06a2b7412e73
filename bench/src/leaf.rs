//! A client's certificate: its key is made here, and the control plane signs it.

use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tonic::transport::Channel;
use ursa_proto::agent::SignCertificateRequest;
use ursa_proto::agent::agent_client::AgentClient;

use crate::session::authorized;

/// A certificate with its key.
#[derive(Debug)]
pub struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: PrivatePkcs8KeyDer<'static>,
    /// Names the signer.
    pub signer: String,
}

impl Leaf {
    /// Makes a key and has it signed.
    pub async fn sign(channel: Channel, token: Option<Arc<str>>, node_id: String) -> anyhow::Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a key")?;
        let csr =
            CertificateParams::default().serialize_request(&key).context("cannot ask for a signature")?;
        let message = SignCertificateRequest { csr: csr.der().to_vec(), node_id };
        let request = authorized(message, token.as_deref())?;
        let answer = AgentClient::new(channel).sign_certificate(request).await?.into_inner();
        let chain = CertificateDer::pem_slice_iter(answer.chain.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.context("the chain is not PEM")?;
        Ok(Self { chain, key: PrivatePkcs8KeyDer::from(key.serialize_der()), signer: answer.signer })
    }

    /// As TLS takes it.
    pub fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain.clone(), self.key.clone_key().into())
    }
}
