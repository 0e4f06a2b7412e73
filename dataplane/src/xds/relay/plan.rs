//! What Envoy is sent next, and when: make before break.
//!
//! Order: clusters, endpoints, secrets, then listeners, then routes, each when what it refers to is in force;
//! removals when what referred to them is gone. After a changed cluster its endpoints are sent again, or Envoy would
//! let it warm for 15 s (it does not ask again).
//! Invariant: a changed endpoint set never waits for anything but the one before it.

use std::collections::BTreeSet;

use ursa_envoy::ResourceType;
use ursa_envoy::wire::DeltaDiscoveryResponse;

use super::envoy::{Adds, EnvoyView, InFlight, TypeView, takes_wildcard};
use super::targets::Targets;
use crate::xds::cache::wire_resource;

/// All that can be sent now.
pub(super) fn responses(
    envoy: &mut EnvoyView,
    targets: &Targets,
    nonces: &mut u64,
) -> Vec<DeltaDiscoveryResponse> {
    let next = |resource_type| next(envoy, resource_type, targets, nonces);
    ResourceType::ALL.into_iter().filter_map(next).collect()
}

fn next(
    envoy: &mut EnvoyView,
    resource_type: ResourceType,
    targets: &Targets,
    nonces: &mut u64,
) -> Option<DeltaDiscoveryResponse> {
    let view = envoy.of(resource_type);
    if !view.requested || view.in_flight.is_some() {
        return None;
    }
    let may_add = may_add(envoy, resource_type, targets);
    let may_remove = may_remove(envoy, resource_type, targets);
    let view = envoy.of_mut(resource_type);
    let mut adds = if may_add { view.adds(resource_type, targets) } else { Adds::new() };
    let mut removes = if may_remove { view.removes(resource_type, targets) } else { BTreeSet::new() };
    // Listeners leave in the message in which others come, since those may take over their addresses.
    let together = resource_type == ResourceType::Listener && view.portions.is_empty();
    if !together && !removes.is_empty() && (adds.is_empty() || !view.portions.is_empty()) {
        adds.clear();
    } else if !together {
        removes.clear();
    }
    if removes.is_empty() && may_add {
        adds = portion(view, adds);
    }
    let empty_answer = may_add && view.wildcard && !view.answered && targets.known.contains(&resource_type);
    if adds.is_empty() && removes.is_empty() && !empty_answer {
        return None;
    }
    Some(send(envoy, resource_type, adds, removes, nonces))
}

/// While a culprit is looked for, only the next portion of those that could be it.
fn portion(view: &mut TypeView, mut adds: Adds) -> Adds {
    while let Some(names) = view.portions.pop_front() {
        let some: Adds = adds.extract_if(.., |name, _| names.contains(name)).collect();
        if !some.is_empty() {
            return some;
        }
    }
    adds
}

fn may_add(envoy: &EnvoyView, resource_type: ResourceType, targets: &Targets) -> bool {
    use ResourceType::{Cluster, Endpoint, Listener, Route, Secret};
    let warm = || {
        envoy.of(Cluster).is_quiet(Cluster, targets)
            // A secret that Envoy refuses would have it refuse the listeners that use it.
            && envoy.of(Secret).in_flight.is_none()
            && [Endpoint, Secret].into_iter().all(|kind| envoy.of(kind).is_warm(kind, targets))
    };
    match resource_type {
        Cluster | Endpoint | Secret => true,
        Listener => warm(),
        Route => warm() && envoy.of(Listener).is_quiet(Listener, targets),
    }
}

fn may_remove(envoy: &EnvoyView, resource_type: ResourceType, targets: &Targets) -> bool {
    use ResourceType::{Cluster, Endpoint, Listener, Route, Secret};
    let done = |kind: ResourceType| {
        let view = envoy.of(kind);
        view.requested && view.is_quiet(kind, targets) && view.removes(kind, targets).is_empty()
    };
    match resource_type {
        Listener => may_add(envoy, Listener, targets),
        Route => done(Listener),
        Cluster => {
            may_add(envoy, Listener, targets) && done(Listener) && envoy.of(Route).is_quiet(Route, targets)
        }
        Endpoint => done(Cluster),
        Secret => done(Cluster) && done(Listener),
    }
}

fn send(
    envoy: &mut EnvoyView,
    resource_type: ResourceType,
    adds: Adds,
    removes: BTreeSet<String>,
    nonces: &mut u64,
) -> DeltaDiscoveryResponse {
    if resource_type == ResourceType::Cluster {
        let endpoints = envoy.of_mut(ResourceType::Endpoint);
        let again = adds.keys().filter(|name| endpoints.names.contains(*name));
        let again: Vec<String> = again.cloned().collect();
        endpoints.resend.extend(again);
    }
    let view = envoy.of_mut(resource_type);
    let cold = |name: &&String| {
        !takes_wildcard(resource_type) && (view.resend.contains(*name) || !view.acked.contains_key(*name))
    };
    let warming = adds.keys().filter(cold).cloned().collect();
    view.resend.retain(|name| !adds.contains_key(name));
    view.answered = true;
    *nonces += 1;
    let nonce = nonces.to_string();
    let response = DeltaDiscoveryResponse {
        type_url: resource_type.type_url().into(),
        resources: adds.iter().map(|(name, entry)| wire_resource(name, entry)).collect(),
        removed_resources: removes.iter().cloned().collect(),
        nonce: nonce.clone(),
        ..Default::default()
    };
    view.in_flight = Some(InFlight { nonce, adds, removes, warming });
    response
}
