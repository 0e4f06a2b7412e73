//! Mutual TLS: the workload's certificate comes from the agent, who may connect from the control plane, both by SDS.
//!
//! Invariant: an empty list of accepted identities accepts nobody (Envoy takes no matcher for "anybody").

use envoy_types::pb::envoy::config::core::v3::{DataSource, TypedExtensionConfig, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, Secret,
    SpiffeCertValidatorConfig, SubjectAltNameMatcher, TlsCertificate, TlsParameters, UpstreamTlsContext,
    downstream_tls_context::SessionTicketKeysType, secret, spiffe_cert_validator_config,
};
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use envoy_types::pb::google::protobuf::{Any, UInt32Value};
use prost::Message as _;
use ursa_model::{IdentityPattern, TrustBundle};

use crate::pack::{ads, any, bool_value};

/// The name of the SDS secret that holds the workload's certificate and key; the agent serves it.
pub const IDENTITY_SECRET: &str = "identity";

/// By this ALPN protocol a server recognises TLS of the mesh.
pub(crate) const ALPN: &str = "ursa";

/// Matches no identity: no SPIFFE ID is empty.
const NOBODY: &str = "";

/// The workload's certificate as an SDS secret: chain and key in PEM.
pub fn identity_secret(chain_pem: &str, key_pem: &str) -> Any {
    let inline = |pem: &str| {
        Some(DataSource { specifier: Some(Specifier::InlineString(pem.to_owned())), ..Default::default() })
    };
    any(Secret {
        name: IDENTITY_SECRET.into(),
        r#type: Some(secret::Type::TlsCertificate(TlsCertificate {
            certificate_chain: inline(chain_pem),
            private_key: inline(key_pem),
            ..Default::default()
        })),
    })
}

/// The same secret in other words: certificates are followed by an empty line. `None` for what is no secret, or has no
/// inline certificates.
///
/// Envoy remembers what it was sent before it tries it, so that it takes a secret that it refused for known when the
/// same comes again, and acknowledges it without effect (`SdsApi::onConfigUpdate`).
pub fn reworded(secret: &Any) -> Option<Any> {
    let mut secret = Secret::decode(secret.value.as_slice()).ok()?;
    match secret.r#type.as_mut()? {
        secret::Type::TlsCertificate(own) => add_line(own.certificate_chain.as_mut()?)?,
        secret::Type::ValidationContext(context) => {
            let config = context.custom_validator_config.as_mut()?.typed_config.as_mut()?;
            let mut validator = SpiffeCertValidatorConfig::decode(config.value.as_slice()).ok()?;
            add_line(validator.trust_domains.first_mut()?.trust_bundle.as_mut()?)?;
            *config = any(validator);
        }
        _ => return None,
    }
    Some(any(secret))
}

fn add_line(pem: &mut DataSource) -> Option<()> {
    let Some(Specifier::InlineString(text)) = &mut pem.specifier else { return None };
    text.push('\n');
    Some(())
}

/// Who is accepted, as an SDS secret: roots by trust domain, and patterns of identities (`None`: any of the domains').
pub(crate) fn validation_secret(
    name: &str,
    trust: &TrustBundle,
    accepted: Option<&[IdentityPattern]>,
) -> Any {
    let trust_domains = trust
        .iter()
        .map(|(domain, roots)| spiffe_cert_validator_config::TrustDomain {
            name: domain.clone(),
            trust_bundle: Some(DataSource {
                specifier: Some(Specifier::InlineString(roots.clone())),
                ..Default::default()
            }),
            ..Default::default()
        })
        .collect();
    any(Secret {
        name: name.to_owned(),
        r#type: Some(secret::Type::ValidationContext(CertificateValidationContext {
            match_typed_subject_alt_names: matchers(accepted),
            custom_validator_config: Some(TypedExtensionConfig {
                name: "envoy.tls.cert_validator.spiffe".into(),
                typed_config: Some(any(SpiffeCertValidatorConfig { trust_domains, ..Default::default() })),
            }),
            // Naming the accepted authorities would tell strangers which zones there are.
            suppress_client_ca_list: true,
            ..Default::default()
        })),
    })
}

/// What an identity has to match, one of them (`None`: any identity will do).
pub(crate) fn matchers(accepted: Option<&[IdentityPattern]>) -> Vec<SubjectAltNameMatcher> {
    let matcher = |pattern| SubjectAltNameMatcher {
        san_type: SanType::Uri.into(),
        matcher: Some(StringMatcher { match_pattern: Some(pattern), ..Default::default() }),
        ..Default::default()
    };
    match accepted {
        None => Vec::new(),
        Some([]) => vec![matcher(MatchPattern::Exact(NOBODY.into()))],
        Some(patterns) => patterns.iter().map(|p| matcher(MatchPattern::Prefix(p.prefix()))).collect(),
    }
}

fn common(validation_secret: &str) -> CommonTlsContext {
    let sds = |name: &str| SdsSecretConfig { name: name.to_owned(), sds_config: Some(ads()) };
    CommonTlsContext {
        tls_params: Some(TlsParameters {
            tls_minimum_protocol_version: TlsProtocol::TlSv13.into(),
            tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
            ..Default::default()
        }),
        alpn_protocols: vec![ALPN.into()],
        tls_certificate_sds_secret_configs: vec![sds(IDENTITY_SECRET)],
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(
            CombinedCertificateValidationContext {
                default_validation_context: Some(CertificateValidationContext::default()),
                validation_context_sds_secret_config: Some(sds(validation_secret)),
                ..Default::default()
            },
        )),
        ..Default::default()
    }
}

pub(crate) fn downstream(validation_secret: &str) -> DownstreamTlsContext {
    DownstreamTlsContext {
        common_tls_context: Some(common(validation_secret)),
        require_client_certificate: bool_value(true),
        // A resumed session would skip the check of who may connect.
        disable_stateful_session_resumption: true,
        session_ticket_keys_type: Some(SessionTicketKeysType::DisableStatelessSessionResumption(true)),
        ..Default::default()
    }
}

pub(crate) fn upstream(validation_secret: &str, sni: String) -> UpstreamTlsContext {
    UpstreamTlsContext {
        common_tls_context: Some(common(validation_secret)),
        sni,
        // The name of one instance, where the endpoint has one.
        auto_host_sni: true,
        max_session_keys: Some(UInt32Value { value: 0 }),
        ..Default::default()
    }
}
