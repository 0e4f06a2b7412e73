//! SPIFFE identities of workloads.
//!
//! Each zone is a trust domain of its own in each mesh, so that a zone's key can mint only that zone's identities.
//! Source: the SPIFFE ID specification, <https://spiffe.io/docs/latest/spiffe-specs/spiffe-id/>.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::fingerprint::hex;

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
    /// [Hash](Self::hash) of the tags that are part of it; `-` if none are.
    pub tags: String,
    /// The name of the proxy.
    pub proxy: String,
}

impl SpiffeId {
    /// Stands for a part that has no value.
    pub const NONE: &str = "-";

    /// The identity of a workload outside Kubernetes, with no tags in it.
    pub fn universal(trust_domain: TrustDomain, service: &str, proxy: &str) -> Self {
        Self {
            trust_domain,
            service: service.to_owned(),
            namespace: Self::NONE.to_owned(),
            tags: Self::NONE.to_owned(),
            proxy: proxy.to_owned(),
        }
    }

    /// What stands for tags in an identity: 16 hexadecimal digits of SHA-256 over them, `-` if there are none.
    pub fn hash(tags: &BTreeMap<String, String>) -> String {
        if tags.is_empty() {
            return Self::NONE.to_owned();
        }
        let mut hasher = Sha256::new();
        for (key, value) in tags {
            hasher.update(format!("{key}={value}\n"));
        }
        hex(&hasher.finalize()[..8])
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

/// Identities that a proxy accepts: all that start with a prefix that ends in `/`. Each form is part of the one before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum IdentityPattern {
    /// Every workload of a zone.
    Zone(TrustDomain),
    /// Every workload of a zone whose primary service this is.
    Service(TrustDomain, String),
    /// Those of them that are of a namespace.
    Namespace(TrustDomain, String, String),
    /// Those of them whose identity tags have a hash.
    Tags(TrustDomain, String, String, String),
}

impl IdentityPattern {
    /// Trust domain, service, namespace and hash, as far as they are named.
    fn parts(&self) -> (&TrustDomain, Option<&String>, Option<&String>, Option<&String>) {
        match self {
            Self::Zone(domain) => (domain, None, None, None),
            Self::Service(domain, service) => (domain, Some(service), None, None),
            Self::Namespace(domain, service, namespace) => (domain, Some(service), Some(namespace), None),
            Self::Tags(domain, service, namespace, tags) => {
                (domain, Some(service), Some(namespace), Some(tags))
            }
        }
    }

    /// The prefix of the SPIFFE IDs that it stands for.
    pub fn prefix(&self) -> String {
        let (domain, service, namespace, tags) = self.parts();
        let named = [("service", service), ("ns", namespace), ("tags", tags)];
        let named = named.iter().filter_map(|(name, value)| Some(format!("{name}/{}/", (*value)?)));
        std::iter::once(format!("spiffe://{domain}/")).chain(named).collect()
    }

    /// Whether it stands for this identity.
    pub fn matches(&self, id: &SpiffeId) -> bool {
        let (domain, service, namespace, tags) = self.parts();
        let SpiffeId {
            trust_domain,
            service: own_service,
            namespace: own_namespace,
            tags: own_tags,
            proxy: _,
        } = id;
        let fits = |wanted: Option<&String>, own: &String| wanted.is_none_or(|wanted| wanted == own);
        domain == trust_domain
            && fits(service, own_service)
            && fits(namespace, own_namespace)
            && fits(tags, own_tags)
    }

    /// The patterns that cover all of it and more, the widest first.
    pub fn wider(&self) -> Vec<Self> {
        let (domain, service, namespace, tags) = self.parts();
        let mut wider = Vec::new();
        if let Some(service) = service {
            wider.push(Self::Zone(domain.clone()));
            if let Some(namespace) = namespace {
                wider.push(Self::Service(domain.clone(), service.clone()));
                if tags.is_some() {
                    wider.push(Self::Namespace(domain.clone(), service.clone(), namespace.clone()));
                }
            }
        }
        wider
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
    fn all_parts_of_an_identity_read_back() {
        let tags = BTreeMap::from([("team".to_owned(), "payments".to_owned())]);
        let id = SpiffeId {
            namespace: "shop".into(),
            tags: SpiffeId::hash(&tags),
            ..SpiffeId::universal(TrustDomain::new("east", "default"), "redis.shop", "redis-1.shop")
        };
        let text =
            "spiffe://east.default.ursa/service/redis.shop/ns/shop/tags/c133e2f1dae4888e/proxy/redis-1.shop";
        assert_eq!(id.to_string(), text);
        assert_eq!(text.parse::<SpiffeId>().unwrap(), id);
    }

    #[test]
    fn a_hash_depends_on_each_key_and_value() {
        let hash = |tags: &[(&str, &str)]| {
            SpiffeId::hash(
                &tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            )
        };
        let all = [
            hash(&[]),
            hash(&[("a", "b")]),
            hash(&[("a", "c")]),
            hash(&[("b", "b")]),
            hash(&[("a", "b"), ("c", "d")]),
            hash(&[("a", "b"), ("c", "e")]),
        ];
        assert_eq!(all[0], "-");
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len(), "{all:?}");
        assert!(all.iter().all(|hash| SpiffeId::is_segment(hash)));
    }

    #[test]
    fn a_pattern_never_matches_a_longer_name() {
        let domain = TrustDomain::new("east", "default");
        let id = SpiffeId {
            namespace: "shop".into(),
            tags: "12".into(),
            ..SpiffeId::universal(domain.clone(), "redis", "p")
        };
        let longer = [
            SpiffeId { service: "redis-admin".into(), ..id.clone() },
            SpiffeId { namespace: "shop-2".into(), ..id.clone() },
            SpiffeId { tags: "123".into(), ..id.clone() },
        ];
        let (service, namespace, tags) = ("redis".to_owned(), "shop".to_owned(), "12".to_owned());
        let patterns = [
            IdentityPattern::Zone(domain.clone()),
            IdentityPattern::Service(domain.clone(), service.clone()),
            IdentityPattern::Namespace(domain.clone(), service.clone(), namespace.clone()),
            IdentityPattern::Tags(domain, service, namespace, tags),
        ];
        for (depth, pattern) in patterns.iter().enumerate() {
            assert!(pattern.prefix().ends_with('/'));
            assert_eq!(pattern.wider(), patterns[..depth]);
            for (position, other) in longer.iter().enumerate() {
                let expected = position >= depth;
                assert_eq!(pattern.matches(other), expected, "{pattern:?} {other}");
                assert_eq!(other.to_string().starts_with(&pattern.prefix()), expected, "{pattern:?} {other}");
            }
            assert!(pattern.matches(&id) && id.to_string().starts_with(&pattern.prefix()));
        }
    }
}
