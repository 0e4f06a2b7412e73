//! Certificates of the control plane and the webhook: an authority and the leaves it signs. Keys are never logged.
//!
//! An authority is replaced with overlap: its successor is published at two thirds of its life, so that all who trust the
//! bundle come to know it, signs from five sixths on, and the old one stays in the bundle until it ends.
//! Invariant: every leaf verifies by every bundle that was published since two thirds of its authority's life.

use std::net::IpAddr;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use time::OffsetDateTime;
use x509_parser::pem::Pem;
use x509_parser::prelude::{GeneralName, ParsedExtension, X509Certificate};

/// How long an authority lives: ten years.
const AUTHORITY_SECONDS: i64 = 10 * 365 * 86_400;
/// How long a leaf lives: ninety days.
const LEAF_SECONDS: i64 = 90 * 86_400;
/// Clocks may be behind by this.
const BACKDATE_SECONDS: i64 = 300;

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("a certificate cannot be made: {0}")]
pub struct CertificateError(#[from] rcgen::Error);

/// A certificate and its private key, PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key (PKCS#8).
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair(…)")
    }
}

/// What signs, and what is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    /// What signs now.
    pub current: Pair,
    /// What will sign, once all know it.
    pub next: Option<Pair>,
    /// All certificates to trust, PEM: the signing one first.
    pub bundle: String,
}

impl Authority {
    /// What is to be in force now, given what was stored. Without anything usable it is made anew.
    pub fn renewed(stored: Option<Self>, now: Timestamp) -> Result<Self, CertificateError> {
        let now = now.as_second();
        let usable = |pair: &Pair| life(&pair.certificate).is_some_and(|life| life.holds(now)) && fits(pair);
        let (mut current, mut next, bundle) = match stored {
            Some(stored) => (Some(stored.current), stored.next, stored.bundle),
            None => (None, None, String::new()),
        };
        current = current.filter(usable);
        next = next.filter(usable);
        let passed = |pair: &Pair, parts: i64, of: i64| {
            life(&pair.certificate).is_none_or(|life| life.passed(now, parts, of))
        };
        if current.as_ref().is_none_or(|current| passed(current, 5, 6)) && next.is_some() {
            current = next.take();
        }
        let current = match current {
            Some(current) => current,
            None => new_authority(now)?,
        };
        if next.is_none() && passed(&current, 2, 3) {
            next = Some(new_authority(now)?);
        }
        let mut trusted = vec![current.certificate.clone()];
        trusted.extend(next.iter().map(|next| next.certificate.clone()));
        for old in split(&bundle) {
            if !trusted.contains(&old) && life(&old).is_some_and(|life| life.holds(now)) {
                trusted.push(old);
            }
        }
        Ok(Self { current, next, bundle: trusted.concat() })
    }

    /// The stored leaf, or a new one if it is past two thirds of its life, of another authority or for other names.
    pub fn leaf(
        &self,
        stored: Option<Pair>,
        names: &[String],
        now: Timestamp,
    ) -> Result<Pair, CertificateError> {
        let now = now.as_second();
        match stored {
            Some(stored) if self.keeps(&stored, names, now) => Ok(stored),
            _ => self.new_leaf(names, now),
        }
    }

    fn keeps(&self, leaf: &Pair, names: &[String], now: i64) -> bool {
        let Some(pem) = parse(&leaf.certificate) else { return false };
        let Some(authority) = parse(&self.current.certificate) else { return false };
        let (Ok(found), Ok(authority)) = (pem.parse_x509(), authority.parse_x509()) else { return false };
        // An address has many spellings.
        let spelt = |name: &String| name.parse::<IpAddr>().map_or_else(|_| name.clone(), |ip| ip.to_string());
        let mut expected: Vec<String> = names.iter().map(spelt).collect();
        expected.sort_unstable();
        found.verify_signature(Some(authority.public_key())).is_ok()
            && names_of(&found) == expected
            && Life::of(&found).holds(now)
            && !Life::of(&found).passed(now, 2, 3)
            && fits(leaf)
    }

    fn new_leaf(&self, names: &[String], now: i64) -> Result<Pair, CertificateError> {
        let issuer =
            Issuer::from_ca_cert_pem(&self.current.certificate, KeyPair::from_pem(&self.current.key)?)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = instant(now - BACKDATE_SECONDS);
        params.not_after = instant(now + LEAF_SECONDS);
        let certificate = params.signed_by(&key, &issuer)?.pem();
        Ok(Pair { certificate, key: key.serialize_pem() })
    }
}

fn new_authority(now: i64) -> Result<Pair, CertificateError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Ursa control plane");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = instant(now - BACKDATE_SECONDS);
    params.not_after = instant(now + AUTHORITY_SECONDS);
    let certificate = params.self_signed(&key)?.pem();
    Ok(Pair { certificate, key: key.serialize_pem() })
}

/// From when to when a certificate counts, in seconds.
#[derive(Clone, Copy)]
struct Life {
    from: i64,
    until: i64,
}

impl Life {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self { from: validity.not_before.timestamp(), until: validity.not_after.timestamp() }
    }

    fn holds(self, now: i64) -> bool {
        self.from <= now && now < self.until
    }

    /// Whether this part of it has passed.
    fn passed(self, now: i64, parts: i64, of: i64) -> bool {
        now >= self.from + (self.until - self.from) / of * parts
    }
}

fn life(pem: &str) -> Option<Life> {
    let pem = parse(pem)?;
    pem.parse_x509().ok().as_ref().map(Life::of)
}

fn parse(pem: &str) -> Option<Pem> {
    x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok().map(|(_, pem)| pem)
}

/// Whether the key is the certificate's.
fn fits(pair: &Pair) -> bool {
    let Some(pem) = parse(&pair.certificate) else { return false };
    let (Ok(certificate), Ok(key)) = (pem.parse_x509(), KeyPair::from_pem(&pair.key)) else { return false };
    certificate.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
}

fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for extension in certificate.extensions() {
        if let ParsedExtension::SubjectAlternativeName(found) = extension.parsed_extension() {
            names.extend(found.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                GeneralName::IPAddress(bytes) => address(bytes),
                _ => None,
            }));
        }
    }
    names.sort_unstable();
    names
}

/// As it is written, from 4 or 16 bytes.
fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok().map(|address| address.to_string())
}

/// The certificates of a PEM text as texts, in order.
fn split(bundle: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let parts = bundle.split_inclusive(END).filter(|part| part.ends_with(END));
    parts.map(|part| format!("{}\n", part.trim_start())).collect()
}

fn instant(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).expect("within the years that there are")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn at(days: i64) -> Timestamp {
        Timestamp::from_second(1_900_000_000 + days * DAY).unwrap()
    }

    fn names() -> Vec<String> {
        ["ursa.ursa-system.svc", "ursa", "192.0.2.7", "2001:DB8:0::1"].map(str::to_owned).into()
    }

    /// Whether the leaf is signed by one that the bundle holds.
    fn verifies(leaf: &Pair, bundle: &str) -> bool {
        let leaf = parse(&leaf.certificate).unwrap();
        let leaf = leaf.parse_x509().unwrap();
        split(bundle).iter().any(|pem| {
            let authority = parse(pem).unwrap();
            leaf.verify_signature(Some(authority.parse_x509().unwrap().public_key())).is_ok()
        })
    }

    #[test]
    fn what_is_fresh_stays_as_it_is() {
        let authority = Authority::renewed(None, at(0)).unwrap();
        let leaf = authority.leaf(None, &names(), at(0)).unwrap();
        let later = Authority::renewed(Some(authority.clone()), at(59)).unwrap();
        assert_eq!(later, authority);
        assert_eq!(later.leaf(Some(leaf.clone()), &names(), at(59)).unwrap(), leaf);
        assert!(verifies(&leaf, &later.bundle));
    }

    #[test]
    fn a_leaf_is_renewed_at_two_thirds_for_other_names_and_when_its_key_is_not_its_own() {
        let authority = Authority::renewed(None, at(0)).unwrap();
        let leaf = authority.leaf(None, &names(), at(0)).unwrap();
        let renewed = |leaf: &Pair, names: &[String], day| {
            authority.leaf(Some(leaf.clone()), names, at(day)).unwrap() != *leaf
        };
        assert!(renewed(&leaf, &names(), 60));
        assert!(renewed(&leaf, &["ursa".to_owned()], 0));
        let other = authority.leaf(None, &names(), at(0)).unwrap();
        assert!(renewed(&Pair { key: other.key, ..leaf.clone() }, &names(), 0));
        assert!(renewed(&Pair { certificate: "garbage".into(), ..leaf.clone() }, &names(), 0));
        let stranger = Authority::renewed(None, at(0)).unwrap();
        assert_ne!(stranger.leaf(Some(leaf.clone()), &names(), at(0)).unwrap(), leaf);
    }

    #[test]
    fn at_any_time_leaves_verify_by_bundles_that_were_published_before_and_after() {
        let mut authority = Authority::renewed(None, at(0)).unwrap();
        let mut leaf = authority.leaf(None, &names(), at(0)).unwrap();
        let mut roots = vec![authority.current.certificate.clone()];
        let mut bundles: Vec<(i64, String)> = Vec::new();
        // Thirty years in steps of ten days: an authority every eighty months, each known before it signs.
        for day in (0..30 * 365).step_by(10) {
            authority = Authority::renewed(Some(authority), at(day)).unwrap();
            leaf = authority.leaf(Some(leaf), &names(), at(day)).unwrap();
            if roots.last() != Some(&authority.current.certificate) {
                roots.push(authority.current.certificate.clone());
            }
            assert!(split(&authority.bundle).len() <= 2, "day {day}");
            bundles.push((day, authority.bundle.clone()));
            // A sixth of ten years is 608 days: who read the bundle within a year before can verify what is shown now.
            for (_, bundle) in bundles.iter().rev().take_while(|(then, _)| day - then <= 365) {
                assert!(verifies(&leaf, bundle), "day {day}");
            }
        }
        assert_eq!(roots.len(), 5);
    }

    #[test]
    fn a_lost_or_broken_authority_is_made_anew() {
        let authority = Authority::renewed(None, at(0)).unwrap();
        let broken = Authority { current: Pair::default(), ..authority.clone() };
        let renewed = Authority::renewed(Some(broken), at(0)).unwrap();
        assert_ne!(renewed.current, authority.current);
        // What workloads trust so far stays trusted, so that those who show the old one are still known.
        assert!(renewed.bundle.contains(&authority.current.certificate));
    }

    #[test]
    fn keys_do_not_appear_in_logs() {
        let authority = Authority::renewed(None, at(0)).unwrap();
        assert!(!format!("{authority:?}").contains("PRIVATE KEY"));
    }
}
