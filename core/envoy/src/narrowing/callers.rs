//! Who may connect, as a secret says it.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, SpiffeCertValidatorConfig, secret,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use prost::Message as _;

use super::Identities;
use crate::pack::any;
use crate::tls;
use crate::wire::Any;

/// Whether the new secret refuses somebody whom the old one accepts. What cannot be read counts as narrower.
pub fn narrows(old: &Any, new: &Any) -> bool {
    match (Accepted::read(old), Accepted::read(new)) {
        (Some(old), Some(new)) => !new.covers(&old),
        _ => true,
    }
}

/// The same secret, but nobody is accepted.
pub(super) fn closed(secret: &Any) -> Option<Any> {
    let mut secret = Secret::decode(secret.value.as_slice()).ok()?;
    let Some(secret::Type::ValidationContext(context)) = &mut secret.r#type else { return None };
    context.match_typed_subject_alt_names = tls::matchers(Some(&[]));
    Some(any(secret))
}

struct Accepted {
    /// Trust domain → its roots, each in PEM.
    domains: BTreeMap<String, BTreeSet<String>>,
    identities: Identities,
}

impl Accepted {
    fn read(secret: &Any) -> Option<Self> {
        let secret = Secret::decode(secret.value.as_slice()).ok()?;
        let Some(secret::Type::ValidationContext(context)) = secret.r#type else { return None };
        let CertificateValidationContext { match_typed_subject_alt_names, custom_validator_config, .. } =
            context;
        let validator = custom_validator_config?.typed_config?;
        let validator = SpiffeCertValidatorConfig::decode(validator.value.as_slice()).ok()?;
        let domains = validator
            .trust_domains
            .into_iter()
            .map(|domain| match domain.trust_bundle?.specifier? {
                Specifier::InlineString(pem) => Some((domain.name, certificates(&pem))),
                _ => None,
            })
            .collect::<Option<_>>()?;
        let prefixes = match_typed_subject_alt_names
            .into_iter()
            .map(|matcher| match matcher.matcher?.match_pattern? {
                MatchPattern::Prefix(prefix) => Some(Some(prefix)),
                // Nobody.
                MatchPattern::Exact(_) => Some(None),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()?;
        let identities = if prefixes.is_empty() {
            Identities::Any
        } else {
            Identities::Prefixed(prefixes.into_iter().flatten().collect())
        };
        Some(Self { domains, identities })
    }

    fn covers(&self, other: &Self) -> bool {
        let trusts = |(domain, roots): (&String, &BTreeSet<String>)| {
            self.domains.get(domain).is_some_and(|own| own.is_superset(roots))
        };
        other.domains.iter().all(trusts) && self.identities.cover(&other.identities)
    }
}

/// The certificates of a bundle, whatever their order.
fn certificates(pem: &str) -> BTreeSet<String> {
    let texts = pem.split_inclusive("-----END CERTIFICATE-----").map(str::trim);
    texts.filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use ursa_model::{IdentityPattern, TrustBundle, TrustDomain};

    use super::*;
    use crate::tls::validation_secret;

    fn secret(zones: &[&str], accepted: Option<&[IdentityPattern]>) -> Any {
        let domain =
            |zone: &&str| (TrustDomain::new(zone, "default").to_string(), format!("roots of {zone}"));
        let trust: TrustBundle = zones.iter().map(domain).collect();
        validation_secret("callers:127.0.0.1:80", &trust, accepted)
    }

    /// East's roots are these.
    fn rooted(roots: &[&str]) -> Any {
        let pem = |root: &&str| format!("-----BEGIN CERTIFICATE-----\n{root}\n-----END CERTIFICATE-----\n");
        let domain = TrustDomain::new("east", "default").to_string();
        let trust = [(domain, roots.iter().map(pem).collect())].into();
        validation_secret("callers:127.0.0.1:80", &trust, None)
    }

    fn zone(name: &str) -> IdentityPattern {
        IdentityPattern::Zone(TrustDomain::new(name, "default"))
    }

    fn service(zone: &str, name: &str) -> IdentityPattern {
        IdentityPattern::Service(TrustDomain::new(zone, "default"), name.into())
    }

    #[test]
    fn only_a_change_that_refuses_somebody_narrows() {
        let both = ["east", "west"];
        let all = [zone("east"), zone("west")];
        let web = [service("east", "web")];
        let cases = [
            (secret(&both, Some(&all)), secret(&both, Some(&all)), false),
            (secret(&both, Some(&web)), secret(&both, Some(&all)), false),
            (secret(&both, Some(&all)), secret(&both, Some(&web)), true),
            (secret(&both, Some(&web)), secret(&both, Some(&[])), true),
            (secret(&both, Some(&[])), secret(&both, Some(&web)), false),
            (secret(&both, None), secret(&both, Some(&all)), true),
            (secret(&["east"], None), secret(&both, None), false),
            (secret(&both, None), secret(&["east"], None), true),
            (rooted(&["old"]), rooted(&["old", "new"]), false),
            (rooted(&["old", "new"]), rooted(&["new", "old"]), false),
            (rooted(&["old", "new"]), rooted(&["new"]), true),
            (rooted(&["old"]), rooted(&["new"]), true),
        ];
        for (position, (old, new, expected)) in cases.iter().enumerate() {
            assert_eq!(narrows(old, new), *expected, "case {position}");
        }
    }
}
