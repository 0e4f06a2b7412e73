//! The certificate authority of a zone in a mesh.
//! Source: the SPIFFE X.509-SVID specification, <https://spiffe.io/docs/latest/spiffe-specs/x509-svid/>.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CustomExtension, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData as _, SanType, SerialNumber,
};
use rustls_pki_types::CertificateSigningRequestDer;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use ursa_model::{SpiffeId, TOKEN_ID_OID, TrustDomain, encode_token_id, hex};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::pem;

const CERTIFICATE_END: &str = "-----END CERTIFICATE-----";
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
    /// The token's id is none.
    #[error("the token's id is empty or too long")]
    TokenId,
    /// Signing failed.
    #[error("signing failed: {0}")]
    Sign(rcgen::Error),
}

/// What a zone signs with in a mesh: a root of its own, or an intermediate below a root that the user provides.
pub struct ZoneCa {
    domain: TrustDomain,
    /// The certificate that signs, PEM.
    issuer_pem: String,
    /// The root that it ends in, PEM; of a root of the zone's own, the same.
    root_pem: String,
    signer: String,
    not_before: i64,
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
        let mut params = authority(domain, now.as_second(), ROOT_LIFETIME)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let root = params.self_signed(&key)?;
        Self::from_private_pem(&format!("{}{}", root.pem(), key.serialize_pem()))
    }

    /// From what [`Self::to_private_pem`] gave: the certificate that signs, the root if that is another one, the key.
    pub fn from_private_pem(text: &str) -> Result<Self, CaError> {
        let stored = |error: &dyn std::fmt::Display| CaError::Stored(error.to_string());
        let certificates = pem::certificates(text).map_err(|e| stored(&e))?;
        let texts = pem::texts(text);
        let (Some(first), Some(last), [issuer_pem, .., root_pem] | [issuer_pem @ root_pem]) =
            (certificates.first(), certificates.last(), texts.as_slice())
        else {
            return Err(stored(&"no certificate"));
        };
        let (_, key) = text.rsplit_once(CERTIFICATE_END).ok_or_else(|| stored(&"no certificate"))?;
        let key = KeyPair::from_pem(key).map_err(|e| stored(&e))?;
        let (domain, not_before, not_after) = read_authority(first).map_err(|e| stored(&e))?;
        let digest = Sha256::digest(last);
        Ok(Self {
            domain,
            issuer_pem: issuer_pem.clone(),
            root_pem: root_pem.clone(),
            signer: hex(&digest[..8]),
            not_before,
            not_after,
            issuer: Issuer::from_ca_cert_der(first, key)?,
        })
    }

    /// Certificates and key in one text: a secret.
    pub fn to_private_pem(&self) -> String {
        let root = if self.is_root() { "" } else { &self.root_pem };
        format!("{}{root}{}", self.issuer_pem, self.key_pem())
    }

    pub(crate) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Whether the key is that of the certificate.
    pub(crate) fn has_own_key(&self) -> bool {
        let certificates = pem::certificates(&self.issuer_pem).unwrap_or_default();
        let certified = certificates.first().and_then(|der| x509_parser::parse_x509_certificate(der).ok());
        certified
            .is_some_and(|(_, found)| found.public_key().raw == self.issuer.key().subject_public_key_info())
    }

    fn is_root(&self) -> bool {
        self.issuer_pem == self.root_pem
    }

    /// The root's certificate: by it others know what this authority signs.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The certificate that signs.
    pub fn issuer_pem(&self) -> &str {
        &self.issuer_pem
    }

    /// Names the root: 16 hexadecimal digits of its SHA-256.
    pub fn signer(&self) -> &str {
        &self.signer
    }

    /// The trust domain that it may sign for.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Whether half of an intermediate's life is over; a root lives on.
    pub fn is_due(&self, now: Timestamp) -> bool {
        !self.is_root() && now.as_second() > self.not_before.midpoint(self.not_after)
    }

    /// A certificate (PEM) for this identity and the request's key. Names and extensions in the request are ignored.
    pub fn sign(
        &self,
        csr_der: &[u8],
        id: &SpiffeId,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<String, SignError> {
        self.sign_on_token(csr_der, id, None, lifetime, now)
    }

    /// The same, and with the id of the token in it that it is signed on, if there is one: when that is revoked, the certificate
    /// is, too.
    pub fn sign_on_token(
        &self,
        csr_der: &[u8],
        id: &SpiffeId,
        token_id: Option<&str>,
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
        if let Some(token_id) = token_id {
            let value = encode_token_id(token_id).ok_or(SignError::TokenId)?;
            params.custom_extensions = vec![CustomExtension::from_oid_content(&TOKEN_ID_OID, value)];
        }
        let leaf = params.signed_by(&request.public_key, &self.issuer).map_err(SignError::Sign)?;
        let intermediate = if self.is_root() { "" } else { &self.issuer_pem };
        Ok(format!("{}{intermediate}", leaf.pem()))
    }
}

/// What roots and intermediates of a zone have in common.
pub(crate) fn authority(
    domain: &TrustDomain,
    now: i64,
    lifetime: Duration,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Ursa {domain}"));
    params.subject_alt_names = vec![uri(&format!("spiffe://{domain}"))?];
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial());
    params.not_before = instant(now - seconds(BACKDATE));
    params.not_after = instant(now + seconds(lifetime));
    Ok(params)
}

/// The trust domain of an authority of Ursa's making, and from when to when it is valid, in seconds.
fn read_authority(der: &[u8]) -> Result<(TrustDomain, i64, i64), String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|e| e.to_string())?;
    let domain = domain_of(&certificate)?.ok_or("no subject alternative name")?;
    let validity = certificate.validity();
    Ok((domain, validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// The trust domain that a certificate names; `None` if it names nothing, as a user's own root.
fn domain_of(certificate: &X509Certificate<'_>) -> Result<Option<TrustDomain>, String> {
    let Some(san) = certificate.subject_alternative_name().map_err(|e| e.to_string())? else {
        return Ok(None);
    };
    let domain = match san.value.general_names.as_slice() {
        [GeneralName::URI(uri)] => uri
            .strip_prefix("spiffe://")
            .and_then(|domain| domain.strip_suffix(".ursa"))
            .and_then(|domain| domain.split_once('.'))
            .ok_or_else(|| format!("{uri} is not a trust domain of Ursa"))?,
        _ => return Err("expected one URI".into()),
    };
    Ok(Some(TrustDomain::new(domain.0, domain.1)))
}

/// Checks roots that another zone announced: at least one, and authorities, each of this trust domain or, as a user's
/// own root, of none. They count for this trust domain only.
pub fn check_roots(roots_pem: &str, domain: &TrustDomain) -> Result<(), CaError> {
    let roots = pem::certificates(roots_pem).map_err(|error| CaError::Stored(error.to_string()))?;
    if roots.is_empty() {
        return Err(CaError::Stored("no certificate".into()));
    }
    for der in &roots {
        let root = x509_parser::parse_x509_certificate(der);
        let (_, root) = root.map_err(|error| CaError::Stored(error.to_string()))?;
        if !root.is_ca() {
            return Err(CaError::Stored("a root is no authority's certificate".into()));
        }
        let of = domain_of(&root).map_err(CaError::Stored)?;
        if of.as_ref().is_some_and(|of| of != domain) {
            return Err(CaError::Stored(format!("a root is not of {domain}")));
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
