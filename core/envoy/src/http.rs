//! HTTP: connection managers and their route configurations. Permissions are checked for each request by RBAC that
//! comes with the routes (RDS), so that a change bites on open connections too.

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::core::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::config::rbac::v3::principal::{Authenticated, Identifier};
use envoy_types::pb::envoy::config::rbac::v3::{Permission, Policy, Principal, Rbac as Rules, permission, rbac::Action};
use envoy_types::pb::envoy::config::route::v3::route::Action as RouteActionKind;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, WeightedCluster,
};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::{Rbac, RbacPerRoute};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    CodecType, ForwardClientCertDetails, HcmAccessLogOptions, SetCurrentClientCertDetails, RouteSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, LocalReplyConfig, Rds, http_filter,
};
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use envoy_types::pb::google::protobuf::Any;
use ursa_model::{IdentityPattern, Outbound, Protocol};

use crate::listener::network_filter;
use crate::pack::{ads, any, bool_value, duration, uint};
use crate::retry;

pub(crate) const RBAC: &str = "envoy.filters.http.rbac";
const ROUTER: &str = "envoy.filters.http.router";

/// A connection is renewed after this time, so that renewed certificates come into use.
const MAX_CONNECTION_DURATION: Duration = Duration::from_hours(1);

/// A permission is checked when a stream begins; one that goes on for longer than this is checked again.
const MAX_STREAM_DURATION: Duration = Duration::from_hours(1);

/// With a log, each request is logged when it begins.
pub(crate) fn inbound_manager(
    name: &str,
    protocol: Protocol,
    authenticated: bool,
    log: Option<AccessLog>,
) -> Filter {
    let mut filters = Vec::new();
    if authenticated {
        // No rules here: each route configuration brings its own (an absent one refuses, see `inbound_routes`).
        filters.push(http_filter(RBAC, any(Rbac { rules: Some(nobody()), ..Default::default() })));
    }
    filters.push(http_filter(ROUTER, any(Router::default())));
    let max_stream_duration = authenticated.then_some(MAX_STREAM_DURATION);
    manager(name, protocol, filters, max_stream_duration, Some(retry::marked_replies()), log)
}

pub(crate) fn outbound_manager(name: &str, protocol: Protocol) -> Filter {
    manager(name, protocol, vec![http_filter(ROUTER, any(Router::default()))], None, None, None)
}

fn manager(
    name: &str,
    protocol: Protocol,
    http_filters: Vec<HttpFilter>,
    max_stream_duration: Option<Duration>,
    local_reply_config: Option<LocalReplyConfig>,
    log: Option<AccessLog>,
) -> Filter {
    let at_start = HcmAccessLogOptions { flush_access_log_on_new_request: true, ..Default::default() };
    let codec = if protocol == Protocol::Http2 { CodecType::Http2 } else { CodecType::Http1 };
    network_filter(
        "envoy.filters.network.http_connection_manager",
        any(HttpConnectionManager {
            codec_type: codec.into(),
            stat_prefix: name.to_owned(),
            http_filters,
            local_reply_config,
            access_log_options: log.is_some().then_some(at_start),
            access_log: log.into_iter().collect(),
            normalize_path: bool_value(true),
            merge_slashes: true,
            // What a caller says of its identity is never passed on.
            forward_client_cert_details: ForwardClientCertDetails::SanitizeSet.into(),
            set_current_client_cert_details: Some(SetCurrentClientCertDetails {
                uri: true,
                ..Default::default()
            }),
            common_http_protocol_options: Some(HttpProtocolOptions {
                max_connection_duration: duration(MAX_CONNECTION_DURATION),
                max_stream_duration: max_stream_duration.and_then(duration),
                ..Default::default()
            }),
            route_specifier: Some(RouteSpecifier::Rds(Rds {
                config_source: Some(ads()),
                route_config_name: name.to_owned(),
            })),
            ..Default::default()
        }),
    )
}

fn http_filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

/// Routes of an inbound: everything to the application, for callers of these identities only (`None`: plaintext,
/// for all).
pub(crate) fn inbound_routes(name: &str, app_cluster: &str, callers: Option<&[IdentityPattern]>) -> Any {
    let per_filter = match callers {
        None => HashMap::new(),
        Some(callers) => {
            let rules = if callers.is_empty() { nobody() } else { only(callers) };
            let rbac = RbacPerRoute { rbac: Some(Rbac { rules: Some(rules), ..Default::default() }) };
            HashMap::from([(RBAC.to_owned(), any(rbac))])
        }
    };
    let action = RouteActionKind::Route(route(ClusterSpecifier::Cluster(app_cluster.to_owned())));
    any(route_configuration(name, vec![everything(action)], per_filter))
}

/// Routes of an inbound that refuse every request.
pub(crate) fn refused(name: &str) -> RouteConfiguration {
    let refusal = DirectResponseAction { status: 403, ..Default::default() };
    route_configuration(name, vec![everything(RouteActionKind::DirectResponse(refusal))], HashMap::new())
}

/// Routes of an outbound: shares of its destinations.
pub(crate) fn outbound_routes(name: &str, outbound: &Outbound) -> Any {
    let cluster = match outbound.shares.as_slice() {
        [] => None,
        [only] => Some(ClusterSpecifier::Cluster(only.destination.name())),
        shares => Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: shares
                .iter()
                .map(|share| ClusterWeight {
                    name: share.destination.name(),
                    weight: uint(share.weight),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        })),
    };
    let routes = match cluster {
        None => {
            let refusal = DirectResponseAction { status: 503, ..Default::default() };
            vec![everything(RouteActionKind::DirectResponse(refusal))]
        }
        Some(cluster) => {
            let safe = attempts(cluster.clone(), retry::of_safe_methods());
            vec![
                Route { r#match: Some(retry::safe_methods(all_paths())), ..everything(safe) },
                everything(attempts(cluster, retry::of_any_method())),
            ]
        }
    };
    any(RouteConfiguration {
        response_headers_to_remove: retry::MARKS.map(str::to_owned).to_vec(),
        ..route_configuration(name, routes, HashMap::new())
    })
}

/// A route that may be tried again.
fn attempts(cluster: ClusterSpecifier, policy: RetryPolicy) -> RouteActionKind {
    RouteActionKind::Route(RouteAction { retry_policy: Some(policy), ..route(cluster) })
}

fn route(cluster: ClusterSpecifier) -> RouteAction {
    RouteAction {
        cluster_specifier: Some(cluster),
        // Streams may be long; the callers' own time limits hold.
        timeout: duration(Duration::ZERO),
        ..Default::default()
    }
}

fn all_paths() -> RouteMatch {
    RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".into())), ..Default::default() }
}

fn everything(action: RouteActionKind) -> Route {
    Route { r#match: Some(all_paths()), action: Some(action), ..Default::default() }
}

fn route_configuration(
    name: &str,
    routes: Vec<Route>,
    per_filter: HashMap<String, Any>,
) -> RouteConfiguration {
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![VirtualHost {
            name: name.to_owned(),
            domains: vec!["*".into()],
            routes,
            ..Default::default()
        }],
        // Clusters of the same change may still be on their way.
        validate_clusters: bool_value(false),
        typed_per_filter_config: per_filter,
        ..Default::default()
    }
}

/// An allow list without entries.
fn nobody() -> Rules {
    Rules { action: Action::Allow.into(), ..Default::default() }
}

fn only(callers: &[IdentityPattern]) -> Rules {
    let principal = |pattern: &IdentityPattern| Principal {
        identifier: Some(Identifier::Authenticated(Authenticated {
            principal_name: Some(StringMatcher {
                match_pattern: Some(MatchPattern::Prefix(pattern.prefix())),
                ..Default::default()
            }),
        })),
    };
    let policy = Policy {
        permissions: vec![Permission { rule: Some(permission::Rule::Any(true)) }],
        principals: callers.iter().map(principal).collect(),
        ..Default::default()
    };
    Rules {
        action: Action::Allow.into(),
        policies: HashMap::from([("permissions".to_owned(), policy)]),
        ..Default::default()
    }
}
