//! Who may connect, as a secret says it.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, SpiffeCertValidatorConfig, secret,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use prost::Message as _;

use super::Identities;
use crate::pack::any;
use crate::tls;
use crate::wire::Any;

/// Where a certificate in PEM ends.
const END: &str = "-----END CERTIFICATE-----";

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
    /// Roots, PEM, by trust domain.
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
            .map(|domain| Some((domain.name, roots(domain.trust_bundle?)?)))
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
        let trusts_all = |(domain, roots): (&String, &BTreeSet<String>)| {
            self.domains.get(domain).is_some_and(|own| own.is_superset(roots))
        };
        other.domains.iter().all(trusts_all) && self.identities.cover(&other.identities)
    }
}

/// One by one, so that a root that comes beside others is seen to take nothing from anybody.
fn roots(bundle: DataSource) -> Option<BTreeSet<String>> {
    let Some(Specifier::InlineString(text)) = bundle.specifier else { return None };
    let certificates = text.split_inclusive(END).map(str::trim).filter(|part| !part.is_empty());
    Some(certificates.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use ursa_model::{IdentityPattern, TrustBundle, TrustDomain};

    use super::*;
    use crate::tls::validation_secret;

    fn secret(zones: &[&str], accepted: Option<&[IdentityPattern]>) -> Any {
        trusting(zones, &["a root"], accepted)
    }

    fn trusting(zones: &[&str], roots: &[&str], accepted: Option<&[IdentityPattern]>) -> Any {
        let roots = |zone: &str| {
            let each: Vec<String> = roots.iter().map(|root| format!("{root} of {zone}\n{END}\n")).collect();
            each.concat()
        };
        let domain = |zone: &&str| (TrustDomain::new(zone, "default").to_string(), roots(zone));
        let trust: TrustBundle = zones.iter().map(domain).collect();
        validation_secret("callers:127.0.0.1:80", &trust, accepted)
    }

    fn zone(name: &str) -> IdentityPattern {
        IdentityPattern::Zone(TrustDomain::new(name, "default"))
    }

    fn service(zone: &str, name: &str) -> IdentityPattern {
        IdentityPattern::Service(TrustDomain::new(zone, "default"), name.into())
    }

    #[test]
    fn a_root_that_comes_beside_others_narrows_nothing_and_one_that_goes_does() {
        let (one, other) = (trusting(&["east"], &["one"], None), trusting(&["east"], &["other"], None));
        for both in [&["one", "other"], &["other", "one"]] {
            let both = trusting(&["east"], both, None);
            assert!(!narrows(&one, &both) && !narrows(&other, &both));
            assert!(narrows(&both, &one) && narrows(&both, &other));
        }
        assert!(narrows(&one, &other));
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
        ];
        for (position, (old, new, expected)) in cases.iter().enumerate() {
            assert_eq!(narrows(old, new), *expected, "case {position}");
        }
    }
}
