//! The builtin certificate authority of a zone in a mesh.
//! Source: the SPIFFE X.509-SVID specification, <https://spiffe.io/docs/latest/spiffe-specs/x509-svid/>.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
    SerialNumber,
};
use rustls_pki_types::CertificateSigningRequestDer;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use ursa_model::{SpiffeId, TrustDomain, hex};

use crate::pem;

const ROOT_LIFETIME: Duration = Duration::from_hours(87600);
/// How far another host's clock may be behind.
const BACKDATE: Duration = Duration::from_mins(5);

/// Why an authority cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The key or certificate could not be made.
    #[error("cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// What was stored is not an authority.
    #[error("what is stored is not a certificate with its key: {0}")]
    Stored(String),
}

/// Why a request was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// Not a PKCS#10 request with a valid signature.
    #[error("not a valid certificate signing request: {0}")]
    Request(rcgen::Error),
    /// A key of another type.
    #[error("the key must be ECDSA P-256")]
    KeyType,
    /// The identity is not of this authority.
    #[error("{id} is not in the trust domain {domain}")]
    TrustDomain {
        /// What was asked for.
        id: Box<SpiffeId>,
        /// What this authority may sign.
        domain: TrustDomain,
    },
    /// The lifetime is out of bounds.
    #[error("the authority's own certificate ends before the new one would")]
    Lifetime,
    /// Signing failed.
    #[error("signing failed: {0}")]
    Sign(rcgen::Error),
}

/// The root of a zone in a mesh, with its key.
pub struct ZoneCa {
    domain: TrustDomain,
    root_pem: String,
    signer: String,
    not_after: i64,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for ZoneCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZoneCa")
            .field("domain", &self.domain)
            .field("signer", &self.signer)
            .finish_non_exhaustive()
    }
}

impl ZoneCa {
    /// A new root for this trust domain.
    pub fn generate(domain: &TrustDomain, now: Timestamp) -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("Ursa {domain}"));
        params.subject_alt_names = vec![uri(&format!("spiffe://{domain}"))?];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial());
        params.not_before = instant(now.as_second() - seconds(BACKDATE));
        params.not_after = instant(now.as_second() + seconds(ROOT_LIFETIME));
        let root = params.self_signed(&key)?;
        Self::from_private_pem(&format!("{}{}", root.pem(), key.serialize_pem()))
    }

    /// From what [`Self::to_private_pem`] gave.
    pub fn from_private_pem(text: &str) -> Result<Self, CaError> {
        let stored = |error: &dyn std::fmt::Display| CaError::Stored(error.to_string());
        let certificates = pem::certificates(text).map_err(|e| stored(&e))?;
        let root = certificates.first().ok_or_else(|| stored(&"no certificate"))?;
        let key =
            KeyPair::from_pem(text.split_inclusive("-----END CERTIFICATE-----").nth(1).unwrap_or_default())
                .map_err(|e| stored(&e))?;
        let (domain, not_after) = read_root(root).map_err(|e| stored(&e))?;
        let digest = Sha256::digest(root);
        let root_pem = text
            .find("-----END CERTIFICATE-----")
            .map(|end| text[..end].to_owned() + "-----END CERTIFICATE-----\n")
            .ok_or_else(|| stored(&"no certificate"))?;
        Ok(Self {
            domain,
            root_pem,
            signer: hex(&digest[..8]),
            not_after,
            issuer: Issuer::from_ca_cert_der(root, key)?,
        })
    }

    /// Certificate and key in one text: a secret.
    pub fn to_private_pem(&self) -> String {
        format!("{}{}", self.root_pem, self.issuer.key().serialize_pem())
    }

    /// The root's certificate.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Names the root: 16 hexadecimal digits of its SHA-256.
    pub fn signer(&self) -> &str {
        &self.signer
    }

    /// The trust domain that it may sign for.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// A certificate (PEM) for this identity and the request's key. Names and extensions in the request are ignored.
    pub fn sign(
        &self,
        csr_der: &[u8],
        id: &SpiffeId,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<String, SignError> {
        if id.trust_domain != self.domain {
            return Err(SignError::TrustDomain { id: Box::new(id.clone()), domain: self.domain.clone() });
        }
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr_der))
            .map_err(SignError::Request)?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(SignError::KeyType);
        }
        let not_after = now.as_second() + seconds(lifetime);
        if not_after > self.not_after {
            return Err(SignError::Lifetime);
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri(&id.to_string()).map_err(SignError::Sign)?];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial());
        params.not_before = instant(now.as_second() - seconds(BACKDATE));
        params.not_after = instant(not_after);
        let leaf = params.signed_by(&request.public_key, &self.issuer).map_err(SignError::Sign)?;
        Ok(leaf.pem())
    }
}

fn read_root(der: &[u8]) -> Result<(TrustDomain, i64), String> {
    let (_, root) = x509_parser::parse_x509_certificate(der).map_err(|e| e.to_string())?;
    let san =
        root.subject_alternative_name().map_err(|e| e.to_string())?.ok_or("no subject alternative name")?;
    let domain = match san.value.general_names.as_slice() {
        [x509_parser::extensions::GeneralName::URI(uri)] => uri
            .strip_prefix("spiffe://")
            .and_then(|domain| domain.strip_suffix(".ursa"))
            .and_then(|domain| domain.split_once('.'))
            .ok_or_else(|| format!("{uri} is not a trust domain of Ursa"))?,
        _ => return Err("expected one URI".into()),
    };
    Ok((TrustDomain::new(domain.0, domain.1), root.validity().not_after.timestamp()))
}

/// Checks roots that another zone announced: certificates of this trust domain, at least one.
pub fn check_roots(roots_pem: &str, domain: &TrustDomain) -> Result<(), CaError> {
    let roots = pem::certificates(roots_pem).map_err(|error| CaError::Stored(error.to_string()))?;
    if roots.is_empty() {
        return Err(CaError::Stored("no certificate".into()));
    }
    for root in &roots {
        let (of, _) = read_root(root).map_err(CaError::Stored)?;
        if of != *domain {
            return Err(CaError::Stored(format!("a root is of {of}, not of {domain}")));
        }
    }
    Ok(())
}

pub(crate) fn uri(text: &str) -> Result<SanType, rcgen::Error> {
    Ok(SanType::URI(text.try_into()?))
}

/// 128 random bits, positive.
pub(crate) fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

pub(crate) fn seconds(duration: Duration) -> i64 {
    duration.as_secs().try_into().unwrap_or(i64::MAX / 4)
}

pub(crate) fn instant(second: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(second).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
