//! What a certificate says, checked before it is used.
//!
//! Invariant: a [`Leaf`] has exactly one URI name, which is a SPIFFE ID of Ursa, and belongs to the key it was
//! checked with.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ursa_model::{SpiffeId, TOKEN_ID_OID, decode_token_id};
use x509_parser::asn1_rs::Oid;
use x509_parser::error::X509Error;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

/// What is known of a workload's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// Valid from.
    pub not_before: SystemTime,
    /// Valid until.
    pub not_after: SystemTime,
    /// The id of the token that it was signed on, if it says one.
    pub token_id: Option<String>,
    /// Tells it from all others: hexadecimal serial number, and end of validity.
    pub fingerprint: String,
}

/// Why a certificate is not used.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// No certificate, or a damaged one.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// Signed for some other key.
    #[error("it belongs to another key")]
    OtherKey,
    /// Names missing, too many, or none of Ursa's.
    #[error("it must have exactly one URI name, a SPIFFE ID: {0}")]
    Names(String),
    /// A SPIFFE ID, but not the proxy's.
    #[error("it is for {0}, not for {1}")]
    OtherIdentity(String, String),
    /// Expired, or not valid yet.
    #[error("it is not valid now; compare the clocks of this host and of the control plane")]
    NotNow,
}

/// Reads the first certificate of a chain (PEM), which must belong to the key and be valid.
pub fn check(chain_pem: &str, key: &KeyPair, now: SystemTime) -> Result<Leaf, LeafError> {
    let unreadable = |error: &dyn std::fmt::Display| LeafError::Unreadable(error.to_string());
    let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unreadable(&error))?;
    let der = chain.first().ok_or_else(|| LeafError::Unreadable("no certificate in it".into()))?;
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| unreadable(&error))?;
    if certificate.public_key().raw != key.subject_public_key_info() {
        return Err(LeafError::OtherKey);
    }
    let names = certificate.subject_alternative_name().map_err(|error| unreadable(&error))?;
    let names = names.map_or(&[][..], |names| names.value.general_names.as_slice());
    let [GeneralName::URI(uri)] = names else {
        return Err(LeafError::Names(format!("it has {} names", names.len())));
    };
    let spiffe_id = uri.parse().map_err(|error| LeafError::Names(format!("{error}")))?;
    let not_before = system_time(certificate.validity().not_before);
    let not_after = system_time(certificate.validity().not_after);
    if now < not_before || now >= not_after {
        return Err(LeafError::NotNow);
    }
    let mut fingerprint = String::new();
    for byte in certificate.raw_serial() {
        let _ = write!(fingerprint, "{byte:02x}"); // A String takes everything.
    }
    let _ = write!(fingerprint, "-{}", certificate.validity().not_after.timestamp());
    let token_id = token_id(&certificate).map_err(|error| unreadable(&error))?;
    Ok(Leaf { spiffe_id, not_before, not_after, token_id, fingerprint })
}

fn token_id(certificate: &X509Certificate<'_>) -> Result<Option<String>, X509Error> {
    let Ok(oid) = Oid::from(&TOKEN_ID_OID) else { return Ok(None) };
    let extension = certificate.get_extension_unique(&oid)?;
    Ok(extension.and_then(|extension| decode_token_id(extension.value)).map(str::to_owned))
}

fn system_time(time: ASN1Time) -> SystemTime {
    u64::try_from(time.timestamp()).map_or(UNIX_EPOCH, |seconds| UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, SanType};

    use super::*;

    const ID: &str = "spiffe://east.default.ursa/service/web/ns/-/tags/-/proxy/web-1";

    fn signed(names: &[&str], key: &KeyPair) -> String {
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            names.iter().map(|name| SanType::URI(Ia5String::try_from(*name).unwrap())).collect();
        params.not_before = rcgen::date_time_ymd(2024, 1, 1);
        params.not_after = rcgen::date_time_ymd(2124, 1, 1);
        params.self_signed(key).unwrap().pem()
    }

    #[test]
    fn a_good_certificate_is_read() {
        let key = KeyPair::generate().unwrap();
        let leaf = check(&signed(&[ID], &key), &key, SystemTime::now()).unwrap();
        assert_eq!(leaf.spiffe_id.to_string(), ID);
        assert_eq!(leaf.not_before, UNIX_EPOCH + Duration::from_hours(473_352));
        assert_eq!(leaf.token_id, None);
    }

    #[test]
    fn any_other_is_refused() {
        let key = KeyPair::generate().unwrap();
        let other = KeyPair::generate().unwrap();
        let now = SystemTime::now();
        let good = signed(&[ID], &key);
        let later = now + Duration::from_hours(200 * 365 * 24);
        assert!(matches!(check("", &key, now), Err(LeafError::Unreadable(_))));
        assert!(matches!(check(&good, &other, now), Err(LeafError::OtherKey)));
        assert!(matches!(check(&good, &key, later), Err(LeafError::NotNow)));
        assert!(matches!(check(&good, &key, UNIX_EPOCH), Err(LeafError::NotNow)));
        for names in [&[][..], &[ID, ID], &["https://example.com/"]] {
            assert!(matches!(check(&signed(names, &key), &key, now), Err(LeafError::Names(_))), "{names:?}");
        }
    }
}
