//! Second attempts, so that an instance which stops costs nobody a request: its end and the news of it are on their way at
//! the same time. A request that reached an application is tried again only if its method is safe (RFC 9110, 9.2.1): who
//! knows what another did.
//! Source: <https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#x-envoy-retry-on>.

use envoy_types::pb::envoy::config::accesslog::v3::{
    AccessLogFilter, ResponseFlagFilter, access_log_filter::FilterSpecifier,
};
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::retry_policy::{RetryHostPredicate, retry_host_predicate};
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, RetryPolicy, RouteMatch};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    LocalReplyConfig, ResponseMapper,
};
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    RegexMatcher, StringMatcher, string_matcher::MatchPattern,
};

use crate::pack::{any, uint};

/// A proxy says by it that its application took no connection.
const UNREACHED: &str = "x-ursa-unreached";
/// A proxy says by it that its application ended the connection without an answer.
const UNANSWERED: &str = "x-ursa-unanswered";
/// What proxies say to each other only.
pub(crate) const MARKS: [&str; 2] = [UNREACHED, UNANSWERED];

/// Further attempts, each at another instance as far as there are any.
const ATTEMPTS: u32 = 3;

/// Of an outbound, whatever the method: what is certain not to have reached an application.
pub(crate) fn of_any_method() -> RetryPolicy {
    policy("connect-failure,refused-stream,reset-before-request,retriable-headers", &[UNREACHED])
}

/// Of an outbound, for [`safe_methods`]: what got no answer.
pub(crate) fn of_safe_methods() -> RetryPolicy {
    policy("connect-failure,refused-stream,reset,retriable-headers", &MARKS)
}

/// Of these paths, only requests that ask and change nothing.
pub(crate) fn safe_methods(paths: RouteMatch) -> RouteMatch {
    let methods = RegexMatcher { regex: "GET|HEAD|OPTIONS".into(), ..Default::default() };
    let matcher =
        StringMatcher { match_pattern: Some(MatchPattern::SafeRegex(methods)), ..Default::default() };
    let method = HeaderMatcher {
        name: ":method".into(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(matcher)),
        ..Default::default()
    };
    RouteMatch { headers: vec![method], ..paths }
}

fn policy(retry_on: &str, marks: &[&str]) -> RetryPolicy {
    let marked = |name: &&str| HeaderMatcher {
        name: (*name).to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(true)),
        ..Default::default()
    };
    let another = RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".into(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(any(PreviousHostsPredicate {}))),
    };
    RetryPolicy {
        retry_on: retry_on.to_owned(),
        num_retries: uint(ATTEMPTS),
        retry_host_predicate: vec![another],
        host_selection_retry_max_attempts: 5,
        retriable_headers: marks.iter().map(marked).collect(),
        ..Default::default()
    }
}

/// Of an inbound: what it answers itself, because the application did not, it marks.
pub(crate) fn marked_replies() -> LocalReplyConfig {
    // Envoy's response flags: connection failure, and connection termination.
    let mappers = [("UF", UNREACHED), ("UC", UNANSWERED)].map(|(flag, mark)| ResponseMapper {
        filter: Some(AccessLogFilter {
            filter_specifier: Some(FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter {
                flags: vec![flag.into()],
            })),
        }),
        headers_to_add: vec![HeaderValueOption {
            header: Some(HeaderValue { key: mark.into(), value: "1".into(), ..Default::default() }),
            ..Default::default()
        }],
        ..Default::default()
    });
    LocalReplyConfig { mappers: mappers.into(), ..Default::default() }
}
