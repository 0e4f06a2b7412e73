//! Ends the connections of callers that are no longer accepted.
//!
//! Who may connect to a TCP inbound is decided in the handshake, so a change of the rules leaves open connections
//! alone. When a change refuses somebody who was accepted before, the inbound's filter chain is replaced by an equal
//! one: Envoy then closes the connections of the old chain within its drain time. A change that only admits more
//! leaves everything open.

use envoy_types::pb::envoy::config::core::v3::Metadata;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, SpiffeCertValidatorConfig, secret,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use prost::Message as _;

use crate::pack::any;
use crate::wire::Any;

/// The listener whose callers the secret of this name decides on; `None` for any other secret.
pub fn listener_of_callers(secret: &str) -> Option<String> {
    secret.strip_prefix("callers:").map(|address| format!("inbound:{address}"))
}

/// Whether the new secret refuses somebody whom the old one accepts. What cannot be read counts as narrower.
pub fn narrows(old: &Any, new: &Any) -> bool {
    match (Accepted::read(old), Accepted::read(new)) {
        (Some(old), Some(new)) => !new.covers(&old),
        _ => true,
    }
}

/// The same listener with filter chains that Envoy takes for new ones.
pub fn with_generation(listener: &Any, generation: u64) -> Option<Any> {
    let mut listener = Listener::decode(listener.value.as_slice()).ok()?;
    let text = Value { kind: Some(Kind::StringValue(generation.to_string())) };
    let fields = Struct { fields: [("generation".to_owned(), text)].into() };
    for chain in &mut listener.filter_chains {
        let metadata = chain.metadata.get_or_insert_with(Metadata::default);
        metadata.filter_metadata.insert("ursa".into(), fields.clone());
    }
    Some(any(listener))
}

struct Accepted {
    /// (trust domain, roots).
    domains: Vec<(String, Vec<u8>)>,
    /// Prefixes of identities; `None`: any.
    prefixes: Option<Vec<String>>,
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
            .map(|domain| Some((domain.name, domain.trust_bundle?.encode_to_vec())))
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
        let prefixes = (!prefixes.is_empty()).then(|| prefixes.into_iter().flatten().collect());
        Some(Self { domains, prefixes })
    }

    fn covers(&self, other: &Self) -> bool {
        let domains = other.domains.iter().all(|domain| self.domains.contains(domain));
        let prefixes = match (&self.prefixes, &other.prefixes) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => {
                others.iter().all(|other| own.iter().any(|prefix| other.starts_with(prefix)))
            }
        };
        domains && prefixes
    }
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
        ];
        for (position, (old, new, expected)) in cases.iter().enumerate() {
            assert_eq!(narrows(old, new), *expected, "case {position}");
        }
    }

    #[test]
    fn a_generation_changes_the_chains_and_nothing_else() {
        let listener =
            any(Listener { name: "l".into(), filter_chains: vec![Default::default()], ..Default::default() });
        let first = with_generation(&listener, 1).unwrap();
        assert_ne!(first.value, listener.value);
        assert_eq!(with_generation(&with_generation(&listener, 2).unwrap(), 1).unwrap().value, first.value);
    }
}
