//! The control plane's own TLS: an authority that clients are given as a file, and the server's certificate.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};

use crate::ca::{instant, seconds, serial};
use crate::served::{ClientCerts, ServedCertificate};

const CA_LIFETIME: Duration = Duration::from_hours(87600);
const LEAF_LIFETIME: Duration = Duration::from_hours(8760);
const BACKDATE: Duration = Duration::from_mins(5);

/// Why the server has no TLS.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// A key or certificate could not be made.
    #[error("cannot make the server's certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// What was stored cannot be read.
    #[error("the stored certificate of the server cannot be read: {0}")]
    Stored(String),
    /// The TLS library refused it.
    #[error("the server's certificate cannot be used: {0}")]
    Use(#[from] rustls::Error),
}

/// The control plane's own TLS.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    ca_pem: String,
    ca_key_pem: String,
    cert_pem: String,
    key_pem: String,
    names: Vec<String>,
    renew_at: i64,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("names", &self.names).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// A new authority, and a certificate for these DNS names and IP addresses.
    pub fn generate(names: &[String], now: Timestamp) -> Result<Self, ServerTlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Ursa control plane");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial());
        params.not_before = instant(now.as_second() - seconds(BACKDATE));
        params.not_after = instant(now.as_second() + seconds(CA_LIFETIME));
        let (ca_pem, ca_key_pem) = (params.self_signed(&key)?.pem(), key.serialize_pem());
        Self::with_authority(ca_pem, ca_key_pem, names, now)
    }

    fn with_authority(
        ca_pem: String,
        ca_key_pem: String,
        names: &[String],
        now: Timestamp,
    ) -> Result<Self, ServerTlsError> {
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, KeyPair::from_pem(&ca_key_pem)?)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into()?),
            });
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial());
        params.not_before = instant(now.as_second() - seconds(BACKDATE));
        params.not_after = instant(now.as_second() + seconds(LEAF_LIFETIME));
        let cert_pem = params.signed_by(&key, &issuer)?.pem();
        Ok(Self {
            ca_pem,
            ca_key_pem,
            cert_pem,
            key_pem: key.serialize_pem(),
            names: names.to_vec(),
            renew_at: now.as_second() + seconds(LEAF_LIFETIME) * 2 / 3,
        })
    }

    /// The same authority, with a new certificate if the old one is past two thirds of its life or its names differ.
    pub fn renewed(self, names: &[String], now: Timestamp) -> Result<Self, ServerTlsError> {
        if self.names == names && now.as_second() < self.renew_at {
            return Ok(self);
        }
        Self::with_authority(self.ca_pem, self.ca_key_pem, names, now)
    }

    /// Everything, with the keys: a secret.
    pub fn to_private_json(&self) -> String {
        serde_json::to_string(self).expect("texts serialize")
    }

    /// From what [`Self::to_private_json`] gave.
    pub fn from_private_json(text: &str) -> Result<Self, ServerTlsError> {
        serde_json::from_str(text).map_err(|error| ServerTlsError::Stored(error.to_string()))
    }

    /// The authority's certificate: what clients are to trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The server's certificate, PEM.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// Its key, PEM: a secret.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// What a server shows.
    pub fn served(&self) -> Result<ServedCertificate, ServerTlsError> {
        ServedCertificate::new(&self.cert_pem, &self.key_pem)
    }

    /// For a server that speaks these protocols (ALPN), best first.
    pub fn rustls_server_config(
        &self,
        clients: ClientCerts,
        alpn: &[&[u8]],
    ) -> Result<Arc<ServerConfig>, ServerTlsError> {
        self.served()?.rustls_server_config(clients, alpn)
    }
}
