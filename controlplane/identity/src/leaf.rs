//! Verifies a workload's certificate against the roots of its zone.

use jiff::Timestamp;
use ursa_model::{SpiffeId, TOKEN_ID_OID, decode_token_id};
use x509_parser::asn1_rs::Oid;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::pem;

/// Why a certificate was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// No certificate, or not one.
    #[error("it cannot be read")]
    Malformed,
    /// Signed by none of the roots.
    #[error("it was not signed by this zone")]
    Foreign,
    /// Its time has not come or is over.
    #[error("it has expired or is not valid yet")]
    Expired,
    /// Not a workload's certificate.
    #[error("it is not a workload's certificate: {0}")]
    NotALeaf(&'static str),
}

/// What a certificate proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedLeaf {
    /// Who holds its key.
    pub id: SpiffeId,
    /// The id of the data-plane token that it was signed on; `None`: on none, such as a pod's, or by a control plane from before
    /// tokens had ids.
    pub token_id: Option<String>,
}

/// What a certificate proves, if one of the roots (PEM) signed it.
pub fn verify_leaf(
    chain_der: &[impl AsRef<[u8]>],
    roots_pem: &str,
    now: Timestamp,
) -> Result<VerifiedLeaf, LeafError> {
    let leaf = chain_der.first().ok_or(LeafError::Malformed)?;
    let leaf = parse(leaf.as_ref())?;
    let roots = pem::certificates(roots_pem).map_err(|_| LeafError::Malformed)?;
    let mut signed_by = None;
    for root in &roots {
        let root = parse(root)?;
        if leaf.issuer() == root.subject() && leaf.verify_signature(Some(root.public_key())).is_ok() {
            signed_by = Some(root_domain(&root)?);
            break;
        }
    }
    let domain = signed_by.ok_or(LeafError::Foreign)?;
    let second = now.as_second();
    let validity = leaf.validity();
    if second < validity.not_before.timestamp() || second > validity.not_after.timestamp() {
        return Err(LeafError::Expired);
    }
    if leaf.is_ca() {
        return Err(LeafError::NotALeaf("it is an authority's"));
    }
    let client = leaf.extended_key_usage().ok().flatten().is_some_and(|usage| usage.value.client_auth);
    if !client {
        return Err(LeafError::NotALeaf("it is not for clients"));
    }
    let id: SpiffeId =
        one_uri(&leaf)?.parse().map_err(|_| LeafError::NotALeaf("its URI is not a SPIFFE ID of Ursa"))?;
    if format!("spiffe://{}", id.trust_domain) != domain {
        return Err(LeafError::NotALeaf("its identity is of another trust domain than its signer"));
    }
    Ok(VerifiedLeaf { id, token_id: token_id(&leaf)? })
}

fn token_id(certificate: &X509Certificate<'_>) -> Result<Option<String>, LeafError> {
    let oid = Oid::from(&TOKEN_ID_OID).map_err(|_| LeafError::Malformed)?;
    let extension = certificate.get_extension_unique(&oid).map_err(|_| LeafError::Malformed)?;
    // One that cannot be read is not taken for none.
    let read = |value| decode_token_id(value).map(str::to_owned).ok_or(LeafError::Malformed);
    extension.map(|extension| read(extension.value)).transpose()
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, LeafError> {
    match parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(LeafError::Malformed),
    }
}

fn root_domain(root: &X509Certificate<'_>) -> Result<String, LeafError> {
    one_uri(root).map(str::to_owned)
}

fn one_uri<'a>(certificate: &X509Certificate<'a>) -> Result<&'a str, LeafError> {
    let names = certificate.subject_alternative_name().map_err(|_| LeafError::Malformed)?;
    match names.map(|names| names.value.general_names.as_slice()) {
        Some([GeneralName::URI(uri)]) => Ok(uri),
        _ => Err(LeafError::NotALeaf("it must have exactly one subject alternative name, a URI")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
    use ursa_model::TrustDomain;

    use super::*;
    use crate::{SignError, ZoneCa};

    const HOUR: Duration = Duration::from_hours(1);

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn ca(zone: &str) -> ZoneCa {
        ZoneCa::generate(&TrustDomain::new(zone, "default"), now()).unwrap()
    }

    fn id(zone: &str) -> SpiffeId {
        SpiffeId::universal(TrustDomain::new(zone, "default"), "web", "web-1")
    }

    fn proven(token_id: Option<&str>) -> VerifiedLeaf {
        VerifiedLeaf { id: id("east"), token_id: token_id.map(str::to_owned) }
    }

    fn csr(names: &[&str]) -> Vec<u8> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.iter().map(|name| crate::ca::uri(name).unwrap()).collect();
        params.serialize_request(&key).unwrap().der().to_vec()
    }

    fn der(chain: &str) -> Vec<rustls_pki_types::CertificateDer<'static>> {
        pem::certificates(chain).unwrap()
    }

    #[test]
    fn a_signed_leaf_proves_its_identity_also_after_a_restart() {
        let made = ca("east");
        let ca = ZoneCa::from_private_pem(&made.to_private_pem()).unwrap();
        assert_eq!((ca.signer(), ca.root_pem()), (made.signer(), made.root_pem()));
        let chain = ca.sign(&csr(&[]), &id("east"), HOUR, now()).unwrap();
        assert_eq!(verify_leaf(&der(&chain), made.root_pem(), now()), Ok(proven(None)));
        let end = now() + jiff::SignedDuration::from_secs(3601);
        assert_eq!(verify_leaf(&der(&chain), made.root_pem(), end), Err(LeafError::Expired));
    }

    #[test]
    fn names_in_a_request_are_ignored() {
        let ca = ca("east");
        let request =
            csr(&["spiffe://east.default.ursa/service/admin/ns/-/tags/-/proxy/p", "spiffe://evil/"]);
        let chain = ca.sign(&request, &id("east"), HOUR, now()).unwrap();
        assert_eq!(verify_leaf(&der(&chain), ca.root_pem(), now()), Ok(proven(None)));
    }

    #[test]
    fn a_leaf_says_which_token_it_was_signed_on_and_a_request_cannot() {
        let ca = ca("east");
        for token_id in [Some("0123456789abcdef0123456789abcdef"), Some("a"), None] {
            let chain = ca.sign_on_token(&csr(&[]), &id("east"), token_id, HOUR, now()).unwrap();
            assert_eq!(verify_leaf(&der(&chain), ca.root_pem(), now()), Ok(proven(token_id)));
        }
        let unnamed = ca.sign_on_token(&csr(&[]), &id("east"), Some(""), HOUR, now());
        assert!(matches!(unnamed, Err(SignError::TokenId)));

        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        let forged = ursa_model::encode_token_id("forged").unwrap();
        params.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(&TOKEN_ID_OID, forged)];
        let request = params.serialize_request(&key).unwrap().der().to_vec();
        let refused = ca.sign_on_token(&request, &id("east"), Some("a"), HOUR, now());
        assert!(matches!(refused, Err(SignError::Request(_))), "{refused:?}");
    }

    #[test]
    fn a_zone_signs_only_its_own_identities() {
        let (east, west) = (ca("east"), ca("west"));
        assert!(matches!(east.sign(&csr(&[]), &id("west"), HOUR, now()), Err(SignError::TrustDomain { .. })));
        let chain = west.sign(&csr(&[]), &id("west"), HOUR, now()).unwrap();
        assert_eq!(verify_leaf(&der(&chain), east.root_pem(), now()), Err(LeafError::Foreign));
    }

    #[test]
    fn a_request_that_was_changed_or_has_another_key_type_is_refused() {
        let ca = ca("east");
        let mut request = csr(&[]);
        let last = request.len() - 1;
        request[last] ^= 1;
        assert!(matches!(ca.sign(&request, &id("east"), HOUR, now()), Err(SignError::Request(_))));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap();
        assert!(matches!(ca.sign(request.der(), &id("east"), HOUR, now()), Err(SignError::KeyType)));
    }

    #[test]
    fn the_root_is_not_a_leaf() {
        let ca = ca("east");
        assert!(matches!(
            verify_leaf(&der(ca.root_pem()), ca.root_pem(), now()),
            Err(LeafError::NotALeaf(_))
        ));
    }

    proptest! {
        #[test]
        fn bytes_that_are_no_request_or_certificate_never_pass(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let ca = ca("east");
            prop_assert!(ca.sign(&bytes, &id("east"), HOUR, now()).is_err());
            prop_assert!(verify_leaf(&[bytes], ca.root_pem(), now()).is_err());
        }
    }
}
