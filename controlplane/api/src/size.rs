//! How big a proxy's configuration is, and why.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use ursa_index::{ProxyView, Weight};
use ursa_model::DestinationId;
use ursa_policy::OutboundPolicies;

/// What a proxy has on account of a service that it may call.
#[derive(Default)]
struct Called<'a> {
    weight: Weight,
    endpoints: usize,
    addresses: Vec<SocketAddr>,
    /// The same at each of its addresses, but for routes.
    policies: Option<&'a OutboundPolicies>,
    routes: BTreeSet<&'a str>,
}

/// `{resources, bytes, types: [{type, resources, bytes}], services: [{service, resources, bytes, endpoints, addresses, reason,
/// routes, permissions}], others: {resources, bytes}}`: services are those that the workload calls by name or address, the
/// biggest first. What several of them go to counts for the first. `others` are inbounds, and what captures. Bytes are those of
/// the encoded resources. `permissions`, with mutual TLS: those that may let the workload in; none: it is refused.
pub(crate) fn size(view: &ProxyView) -> Value {
    let weights = view.weights();
    let policies: BTreeMap<(IpAddr, u16), &OutboundPolicies> = view
        .policies
        .outbounds
        .iter()
        .rev()
        .map(|outbound| ((outbound.address, outbound.port), outbound))
        .collect();
    let mut services: BTreeMap<&str, Called<'_>> = BTreeMap::new();
    let mut callers: BTreeMap<&DestinationId, &str> = BTreeMap::new();
    for (outbound, weight) in view.config.outbounds.iter().zip(weights.outbounds) {
        let called = services.entry(&outbound.service).or_default();
        called.weight += weight;
        called.addresses.push(SocketAddr::new(outbound.address, outbound.port));
        if let Some(policies) = policies.get(&(outbound.address, outbound.port)) {
            called.policies.get_or_insert(policies);
            called.routes.extend(policies.route.as_deref());
        }
        for share in &outbound.shares {
            callers.entry(&share.destination).or_insert(&outbound.service);
        }
    }
    let destinations = view.config.destinations.iter().zip(&view.endpoints);
    for ((destination, endpoints), weight) in destinations.zip(weights.destinations) {
        let caller = callers.get(&destination.id).copied().unwrap_or_default();
        let called = services.entry(caller).or_default();
        called.weight += weight;
        called.endpoints += endpoints.endpoints.len();
    }
    let mut total = Weight::default();
    let types: Vec<Value> = weights
        .types
        .into_iter()
        .map(|(resource_type, weight)| {
            total += weight;
            json!({"type": resource_type.type_url(), "resources": weight.resources, "bytes": weight.bytes})
        })
        .collect();
    let mut services: Vec<_> = services.into_iter().collect();
    services.sort_by_key(|(service, called)| (Reverse(called.weight.bytes), *service));
    let services: Vec<Value> = services.into_iter().map(|(service, called)| one(service, &called)).collect();
    json!({
        "resources": total.resources, "bytes": total.bytes, "types": types, "services": services,
        "others": {"resources": weights.others.resources, "bytes": weights.others.bytes},
    })
}

fn one(service: &str, called: &Called<'_>) -> Value {
    json!({
        "service": service,
        "resources": called.weight.resources,
        "bytes": called.weight.bytes,
        "endpoints": called.endpoints,
        "addresses": called.addresses,
        "reason": called.policies.map(|policies| policies.reason),
        "routes": called.routes,
        "permissions": called.policies.and_then(|policies| policies.permissions.as_ref()),
    })
}
