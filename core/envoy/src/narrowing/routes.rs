//! Whose requests are let in, as an inbound's route configuration says it.

use envoy_types::pb::envoy::config::rbac::v3::principal::Identifier;
use envoy_types::pb::envoy::config::rbac::v3::{Principal, Rbac as Rules};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::RbacPerRoute;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use prost::Message as _;

use super::Identities;
use crate::http::{RBAC, refused};
use crate::pack::any;
use crate::wire::Any;

/// Whether the new routes refuse somebody whom the old ones let in. What cannot be read counts as narrower.
pub(super) fn narrows(old: &Any, new: &Any) -> bool {
    match (admitted(old), admitted(new)) {
        (Some(old), Some(new)) => !new.cover(&old),
        _ => true,
    }
}

/// Routes of the same name that answer every request with 403.
pub(super) fn closed(routes: &Any) -> Option<Any> {
    let RouteConfiguration { name, .. } = RouteConfiguration::decode(routes.value.as_slice()).ok()?;
    Some(any(refused(&name)))
}

/// Without RBAC, in plaintext, nobody needs an identity.
fn admitted(routes: &Any) -> Option<Identities> {
    let routes = RouteConfiguration::decode(routes.value.as_slice()).ok()?;
    let Some(rbac) = routes.typed_per_filter_config.get(RBAC) else { return Some(Identities::Any) };
    let Rules { policies, .. } = RbacPerRoute::decode(rbac.value.as_slice()).ok()?.rbac?.rules?;
    let principals = policies.into_values().flat_map(|policy| policy.principals);
    principals.map(prefix).collect::<Option<_>>().map(Identities::Prefixed)
}

fn prefix(principal: Principal) -> Option<String> {
    match principal.identifier? {
        Identifier::Authenticated(authenticated) => match authenticated.principal_name?.match_pattern? {
            MatchPattern::Prefix(prefix) => Some(prefix),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ursa_model::{IdentityPattern, TrustDomain};

    use super::*;
    use crate::http::inbound_routes;

    #[test]
    fn only_a_change_that_refuses_somebody_narrows() {
        let service = |name: &str| IdentityPattern::Service(TrustDomain::new("east", "default"), name.into());
        let routes =
            |callers: Option<&[IdentityPattern]>| inbound_routes("inbound:127.0.0.1:80", "app", callers);
        let (web, api) = (service("web"), service("api"));
        let both = routes(Some(&[web.clone(), api.clone()]));
        let (web, api) = (routes(Some(&[web])), routes(Some(&[api])));
        let (nobody, plaintext) = (routes(Some(&[])), routes(None));
        let garbage = Any { type_url: both.type_url.clone(), value: vec![0xff; 16] };
        let cases = [
            (&both, &both, false),
            (&web, &both, false),
            (&both, &web, true),
            (&web, &api, true),
            (&web, &nobody, true),
            (&nobody, &web, false),
            (&plaintext, &both, true),
            (&both, &plaintext, false),
            (&both, &garbage, true),
        ];
        for (position, (old, new, expected)) in cases.into_iter().enumerate() {
            assert_eq!(narrows(old, new), expected, "case {position}");
        }
    }
}
