//! A root that the user provides, and the intermediates of zones below it.
//!
//! Invariant: an intermediate signs for one trust domain only. Its name constraint (RFC 5280, section 4.2.1.10) is
//! critical, so that who does not understand it refuses what it has signed.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CustomExtension, IsCa, Issuer,
    KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
};
use rustls_pki_types::CertificateSigningRequestDer;
use ursa_model::TrustDomain;
use x509_parser::certificate::X509Certificate;
use x509_parser::parse_x509_certificate;

use crate::ca::{authority, instant, seconds};
use crate::{CaError, SignError, ZoneCa, pem};

/// The longest life of an intermediate; it is renewed when half of it is over.
pub const INTERMEDIATE_LIFETIME: Duration = Duration::from_hours(30 * 24);
const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];

/// Why what a user provides is no root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProvidedError {
    /// Of the certificate.
    #[error("{0}")]
    Certificate(String),
    /// Of the key.
    #[error("{0}")]
    Key(String),
}

/// A user's own root, with its key.
pub struct ProvidedCa {
    root_pem: String,
    not_after: i64,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for ProvidedCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProvidedCa").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl ProvidedCa {
    /// From certificate and key in PEM, if that is a root that may sign intermediates now.
    pub fn read(certificate_pem: &str, key_pem: &str, now: Timestamp) -> Result<Self, ProvidedError> {
        let refused = |reason: &str| ProvidedError::Certificate(reason.to_owned());
        let certificates = pem::certificates(certificate_pem).unwrap_or_default();
        let [der] = certificates.as_slice() else {
            return Err(refused("must hold exactly one certificate in PEM, a self-signed root"));
        };
        let Ok(([], root)) = parse_x509_certificate(der) else {
            return Err(refused("holds no X.509 certificate"));
        };
        check(&root, now).map_err(refused)?;
        let key = KeyPair::from_pem(key_pem)
            .map_err(|error| ProvidedError::Key(format!("holds no private key in PEM (PKCS#8): {error}")))?;
        if key.subject_public_key_info() != root.public_key().raw {
            return Err(ProvidedError::Key("is not the key of the certificate".into()));
        }
        let issuer = Issuer::from_ca_cert_der(der, key);
        let issuer = issuer.map_err(|error| refused(&format!("cannot sign: {error}")))?;
        let root_pem = pem::texts(certificate_pem).concat();
        Ok(Self { root_pem, not_after: root.validity().not_after.timestamp(), issuer })
    }

    /// An intermediate for a zone's request, and the root, PEM. Names and extensions in the request are ignored.
    pub fn sign_intermediate(
        &self,
        csr_der: &[u8],
        domain: &TrustDomain,
        now: Timestamp,
    ) -> Result<String, SignError> {
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr_der))
            .map_err(SignError::Request)?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(SignError::KeyType);
        }
        let second = now.as_second();
        if second >= self.not_after {
            return Err(SignError::Lifetime);
        }
        let mut params = authority(domain, second, INTERMEDIATE_LIFETIME).map_err(SignError::Sign)?;
        params.not_after = instant(self.not_after.min(second + seconds(INTERMEDIATE_LIFETIME)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.use_authority_key_identifier_extension = true;
        params.custom_extensions = vec![only(domain)];
        let intermediate = params.signed_by(&request.public_key, &self.issuer).map_err(SignError::Sign)?;
        Ok(format!("{}{}", intermediate.pem(), self.root_pem))
    }
}

fn check(root: &X509Certificate<'_>, now: Timestamp) -> Result<(), &'static str> {
    let constraints = root.basic_constraints().ok().flatten();
    let constraints = constraints.filter(|found| found.value.ca);
    let constraints = constraints.ok_or("is no authority's certificate (basic constraints: CA)")?;
    if constraints.value.path_len_constraint == Some(0) {
        return Err("may not sign intermediates (path length 0); each zone needs one");
    }
    let usage = root.key_usage().map_err(|_| "has a key usage that cannot be read")?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err("may not sign certificates (key usage)");
    }
    // Envoy builds no chain that ends below a root.
    if root.subject() != root.issuer() || root.verify_signature(None).is_err() {
        return Err("is not self-signed: provide the root");
    }
    if !is_shortest(root.raw_serial()) {
        return Err(
            "has a serial number that is not in the shortest form of DER, which Envoy refuses: issue it again",
        );
    }
    let second = now.as_second();
    let validity = root.validity();
    if second < validity.not_before.timestamp() || second > validity.not_after.timestamp() {
        return Err("has expired or is not valid yet");
    }
    Ok(())
}

/// Whether an INTEGER's content is as short as it must be in DER (X.690, section 8.3.2).
fn is_shortest(integer: &[u8]) -> bool {
    match integer {
        [] => false,
        [0, second, ..] => *second >= 0x80,
        [0xff, second, ..] => *second < 0x80,
        _ => true,
    }
}

/// Below this certificate only URIs of the trust domain are valid.
fn only(domain: &TrustDomain) -> CustomExtension {
    /// RFC 5280: `uniformResourceIdentifier [6]` of a `GeneralName`, `permittedSubtrees [0]`, and SEQUENCE.
    const URI: u8 = 0x86;
    const PERMITTED: u8 = 0xa0;
    const SEQUENCE: u8 = 0x30;
    let name = der(URI, domain.to_string().as_bytes());
    let subtrees = der(PERMITTED, &der(SEQUENCE, &name));
    let mut extension = CustomExtension::from_oid_content(NAME_CONSTRAINTS, der(SEQUENCE, &subtrees));
    extension.set_criticality(true);
    extension
}

/// A value in DER (X.690, section 8.1): its tag, its length, its content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let bytes = length.to_be_bytes();
    let significant = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    let mut value = vec![tag];
    if let (Ok(short), true) = (u8::try_from(length), length < 128) {
        value.push(short);
    } else {
        value.push(0x80 | u8::try_from(significant.len()).unwrap_or(0x7f));
        value.extend(significant);
    }
    value.extend(content);
    value
}

/// A zone's request for an intermediate, with the key that stays in the zone.
pub struct IntermediateRequest {
    domain: TrustDomain,
    key_pem: String,
    csr: Vec<u8>,
}

impl IntermediateRequest {
    /// With a new key, or with that of the intermediate that it renews, so that what that has signed stays valid.
    pub fn new(domain: &TrustDomain, renews: Option<&ZoneCa>) -> Result<Self, CaError> {
        let key = match renews {
            Some(known) => KeyPair::from_pem(&known.key_pem())?,
            None => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
        };
        let csr = CertificateParams::default().serialize_request(&key)?.der().to_vec();
        Ok(Self { domain: domain.clone(), key_pem: key.serialize_pem(), csr })
    }

    /// The request, PKCS#10 in DER.
    pub fn csr(&self) -> &[u8] {
        &self.csr
    }

    /// The authority that the answer (intermediate and root, PEM) makes of it.
    pub fn finish(&self, chain_pem: &str) -> Result<ZoneCa, CaError> {
        let ca = ZoneCa::from_private_pem(&format!("{chain_pem}{}", self.key_pem))?;
        if *ca.domain() != self.domain {
            return Err(CaError::Stored(format!(
                "an intermediate of {}, not of {}",
                ca.domain(),
                self.domain
            )));
        }
        if !ca.has_own_key() {
            return Err(CaError::Stored("an intermediate for another key".into()));
        }
        Ok(ca)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify_leaf;
    use ursa_model::SpiffeId;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn east() -> TrustDomain {
        TrustDomain::new("east", "default")
    }

    /// A root as a company has it, changed by `change`.
    fn root(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "Corp");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn refused(certificate: &str, key: &str) -> String {
        ProvidedCa::read(certificate, key, now()).unwrap_err().to_string()
    }

    #[test]
    fn a_zone_signs_below_a_provided_root_and_goes_on_after_a_renewal() {
        let (certificate, key) = root(|_| {});
        let provided = ProvidedCa::read(&certificate, &key, now()).unwrap();
        let request = IntermediateRequest::new(&east(), None).unwrap();
        let ca = request.finish(&provided.sign_intermediate(request.csr(), &east(), now()).unwrap()).unwrap();
        assert_eq!(ca.root_pem().lines().count(), certificate.lines().count());
        let leaf_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let csr = CertificateParams::default().serialize_request(&leaf_key).unwrap();
        let id = SpiffeId::universal(east(), "web", "web-1");
        let chain = ca.sign(csr.der(), &id, Duration::from_hours(1), now()).unwrap();
        let chain = pem::certificates(&chain).unwrap();
        assert_eq!(chain.len(), 2, "the leaf and the intermediate");

        assert!(!ca.is_due(now()));
        let later = now() + jiff::SignedDuration::from_hours(16 * 24);
        assert!(ca.is_due(later));
        let again = IntermediateRequest::new(&east(), Some(&ca)).unwrap();
        let renewed = provided.sign_intermediate(again.csr(), &east(), later).unwrap();
        let renewed = again.finish(&renewed).unwrap();
        assert!(!renewed.is_due(later));
        assert_eq!(renewed.signer(), ca.signer(), "the same root: no leaf needs renewal");
        assert_eq!(verify_leaf(&chain, renewed.issuer_pem(), now()).map(|leaf| leaf.id), Ok(id));
        let stored = ZoneCa::from_private_pem(&renewed.to_private_pem()).unwrap();
        assert_eq!((stored.root_pem(), stored.issuer_pem()), (renewed.root_pem(), renewed.issuer_pem()));
    }

    #[test]
    fn an_intermediate_is_constrained_to_its_trust_domain() {
        let (certificate, key) = root(|_| {});
        let provided = ProvidedCa::read(&certificate, &key, now()).unwrap();
        let domain = TrustDomain::new(&"z".repeat(63), &"m".repeat(63)); // a length in two bytes
        let request = IntermediateRequest::new(&domain, None).unwrap();
        let chain = provided.sign_intermediate(request.csr(), &domain, now()).unwrap();
        let der = pem::certificates(&chain).unwrap();
        let (_, intermediate) = parse_x509_certificate(&der[0]).unwrap();
        let constraint = intermediate.name_constraints().unwrap().unwrap();
        assert!(constraint.critical);
        let permitted = constraint.value.permitted_subtrees.as_ref().unwrap();
        let expected = domain.to_string();
        assert!(
            matches!(permitted.as_slice(), [one] if matches!(one.base, x509_parser::extensions::GeneralName::URI(uri) if uri == expected)),
            "{permitted:?}"
        );
        assert_eq!(intermediate.basic_constraints().unwrap().unwrap().value.path_len_constraint, Some(0));
        assert!(
            IntermediateRequest::new(&east(), None).unwrap().finish(&chain).is_err(),
            "of another domain"
        );
        assert!(IntermediateRequest::new(&domain, None).unwrap().finish(&chain).is_err(), "for another key");
    }

    #[test]
    fn what_is_no_root_that_may_sign_is_refused_with_the_reason() {
        let (certificate, key) = root(|_| {});
        let (other, other_key) = root(|_| {});
        assert!(refused(&certificate, &other_key).contains("not the key of the certificate"));
        assert!(refused(&certificate, "x").contains("no private key in PEM"));
        assert!(refused("", &key).contains("exactly one certificate"));
        assert!(refused(&format!("{certificate}{other}"), &key).contains("exactly one certificate"));
        let bad = |change: fn(&mut CertificateParams)| {
            let (certificate, key) = root(change);
            refused(&certificate, &key)
        };
        assert!(bad(|p| p.is_ca = IsCa::ExplicitNoCa).contains("no authority's certificate"));
        assert!(bad(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))).contains("path length 0"));
        assert!(bad(|p| p.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign]).contains("key usage"));
        assert!(bad(|p| p.not_after = instant(1_700_000_000)).contains("expired"));
        let ca = ProvidedCa::read(&certificate, &key, now()).unwrap();
        let request = IntermediateRequest::new(&east(), None).unwrap();
        let intermediate = ca.sign_intermediate(request.csr(), &east(), now()).unwrap();
        let first = &pem::texts(&intermediate)[0];
        assert!(refused(first, &request.key_pem).contains("path length 0"));
    }

    #[test]
    fn of_a_number_only_the_shortest_form_is_taken() {
        for shortest in [&[0][..], &[1], &[0, 0x80], &[0xff, 0x7f], &[0x7f, 0xff]] {
            assert!(is_shortest(shortest), "{shortest:?}");
        }
        for longer in [&[][..], &[0, 1], &[0, 0, 0x80], &[0xff, 0x80]] {
            assert!(!is_shortest(longer), "{longer:?}");
        }
    }
}
