//! SPIFFE identities of workloads.
//!
//! Each zone is a trust domain of its own in each mesh, so that a zone's key can mint only that zone's identities.
//! Source: the SPIFFE ID specification, <https://spiffe.io/docs/latest/spiffe-specs/spiffe-id/>.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The trust domain of a zone in a mesh: `<zone>.<mesh>.ursa`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TrustDomain {
    /// The zone: a DNS label.
    pub zone: String,
    /// The mesh: a DNS label.
    pub mesh: String,
}

impl TrustDomain {
    /// Of this zone in this mesh.
    pub fn new(zone: &str, mesh: &str) -> Self {
        Self { zone: zone.to_owned(), mesh: mesh.to_owned() }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.ursa", self.zone, self.mesh)
    }
}

/// The identity of one workload; its text is the one URI SAN of the workload's certificate:
/// `spiffe://<zone>.<mesh>.ursa/service/<service>/ns/<namespace>/tags/<hash>/proxy/<name>`.
///
/// Zone and mesh are DNS labels, the other parts consist of `[A-Za-z0-9._-]`, so that a prefix that ends in `/`
/// needs no escaping. A part that is empty is written as `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SpiffeId {
    /// Zone and mesh.
    pub trust_domain: TrustDomain,
    /// The workload's primary service.
    pub service: String,
    /// Its namespace; `-` outside Kubernetes.
    pub namespace: String,
    /// Hash of the tags that the mesh declares as identity; `-` when it declares none.
    pub tags: String,
    /// The name of the proxy.
    pub proxy: String,
}

/// Part of an identity that has no value.
const NONE: &str = "-";

impl SpiffeId {
    /// The identity of a workload outside Kubernetes, in a mesh that declares no identity tags.
    pub fn universal(trust_domain: TrustDomain, service: &str, proxy: &str) -> Self {
        Self {
            trust_domain,
            service: service.to_owned(),
            namespace: NONE.to_owned(),
            tags: NONE.to_owned(),
            proxy: proxy.to_owned(),
        }
    }

    /// Whether a text may stand as a part after the trust domain: 1 to 253 of `[A-Za-z0-9._-]`, not `.` or `..`.
    pub fn is_segment(text: &str) -> bool {
        (1..=253).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
            && text != "."
            && text != ".."
    }

    /// Whether a text may be a zone's or mesh's name: a DNS label (RFC 1123).
    pub fn is_label(text: &str) -> bool {
        (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-')
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trust_domain, service, namespace, tags, proxy } = self;
        write!(f, "spiffe://{trust_domain}/service/{service}/ns/{namespace}/tags/{tags}/proxy/{proxy}")
    }
}

/// Why a text is no [`SpiffeId`] of Ursa.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a SPIFFE ID of the form spiffe://ZONE.MESH.ursa/service/S/ns/N/tags/T/proxy/P")]
pub struct ParseSpiffeIdError(String);

impl FromStr for SpiffeId {
    type Err = ParseSpiffeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let rest = text.strip_prefix("spiffe://")?;
            let mut parts = rest.split('/');
            let (zone, mesh) = parts.next()?.strip_suffix(".ursa")?.split_once('.')?;
            if !Self::is_label(zone) || !Self::is_label(mesh) {
                return None;
            }
            let mut named = |name: &str| {
                (parts.next()? == name).then_some(())?;
                parts.next().filter(|value| Self::is_segment(value)).map(str::to_owned)
            };
            let id = Self {
                trust_domain: TrustDomain::new(zone, mesh),
                service: named("service")?,
                namespace: named("ns")?,
                tags: named("tags")?,
                proxy: named("proxy")?,
            };
            parts.next().is_none().then_some(id)
        };
        parse().ok_or_else(|| ParseSpiffeIdError(text.chars().take(200).collect()))
    }
}

/// Identities that a proxy accepts: all that start with a prefix that ends in `/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum IdentityPattern {
    /// Every workload of a zone.
    Zone(TrustDomain),
    /// Every workload of a zone whose primary service this is.
    Service(TrustDomain, String),
}

impl IdentityPattern {
    /// The prefix of the SPIFFE IDs that it stands for.
    pub fn prefix(&self) -> String {
        match self {
            Self::Zone(domain) => format!("spiffe://{domain}/"),
            Self::Service(domain, service) => format!("spiffe://{domain}/service/{service}/"),
        }
    }

    /// Whether it stands for this identity.
    pub fn matches(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Zone(domain) => *domain == id.trust_domain,
            Self::Service(domain, service) => *domain == id.trust_domain && *service == id.service,
        }
    }
}

/// The roots of every trust domain that a proxy knows: trust domain (`<zone>.<mesh>.ursa`) → PEM certificates, concatenated.
pub type TrustBundle = BTreeMap<String, String>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_as_it_was_written() {
        let id = SpiffeId::universal(TrustDomain::new("east", "default"), "redis", "redis-1");
        assert_eq!(id.to_string(), "spiffe://east.default.ursa/service/redis/ns/-/tags/-/proxy/redis-1");
        assert_eq!(id.to_string().parse::<SpiffeId>().unwrap(), id);
    }

    #[test]
    fn what_is_no_identity_of_ursa_is_refused() {
        for text in [
            "",
            "spiffe://default/redis",
            "https://east.default.ursa/service/a/ns/-/tags/-/proxy/p",
            "spiffe://east.default.ursa/service/a/ns/-/tags/-/proxy/p/more",
            "spiffe://east.default.ursa/service//ns/-/tags/-/proxy/p",
            "spiffe://east.default.ursa/service/../ns/-/tags/-/proxy/p",
            "spiffe://east.default.ursa/service/a%2fb/ns/-/tags/-/proxy/p",
            "spiffe://e.a.st.ursa/service/a/ns/-/tags/-/proxy/p",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pattern_never_matches_a_longer_name() {
        let domain = TrustDomain::new("east", "default");
        let pattern = IdentityPattern::Service(domain.clone(), "redis".into());
        let other = SpiffeId::universal(domain, "redis-admin", "p");
        assert!(!pattern.matches(&other));
        assert!(!other.to_string().starts_with(&pattern.prefix()));
    }
}
