//! Endpoints: one locality a zone and priority; shares follow the weights of the endpoints alone.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::{HealthStatus, Locality};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as EnvoyEndpoint, LbEndpoint, LocalityLbEndpoints,
    lb_endpoint::HostIdentifier,
};
use envoy_types::pb::google::protobuf::Any;
use ursa_model::{DestinationId, Endpoint, EndpointSet, EndpointState};

use crate::pack::{any, socket_address, uint};
use crate::zone_ingresses;

/// As those see them who call the destination.
pub(crate) fn callers(name: &str, EndpointSet { destination, endpoints }: &EndpointSet) -> Any {
    load_assignment(name, endpoints, |endpoint| match endpoint.instance {
        None => lb_endpoint(endpoint),
        Some(instance) => in_other_zone(destination, endpoint, instance),
    })
}

/// As the ingress of their zone sees them.
pub(crate) fn ingress(name: &str, EndpointSet { destination, endpoints }: &EndpointSet) -> Any {
    load_assignment(name, endpoints, |endpoint| {
        let key = endpoint.instance.map(|instance| destination.instance_sni(instance));
        LbEndpoint {
            metadata: key.map(|key| zone_ingresses::text_metadata("envoy.lb", "hash_key", key)),
            ..lb_endpoint(endpoint)
        }
    })
}

fn load_assignment(name: &str, endpoints: &[Endpoint], one: impl Fn(&Endpoint) -> LbEndpoint) -> Any {
    let mut localities: BTreeMap<(u32, &str), Vec<LbEndpoint>> = BTreeMap::new();
    for endpoint in endpoints {
        localities.entry((endpoint.priority, &endpoint.zone)).or_default().push(one(endpoint));
    }
    let endpoints = localities
        .into_iter()
        .map(|((priority, zone), lb_endpoints)| LocalityLbEndpoints {
            locality: Some(Locality { zone: zone.to_owned(), ..Default::default() }),
            lb_endpoints,
            priority,
            ..Default::default()
        })
        .collect();
    any(ClusterLoadAssignment { cluster_name: name.to_owned(), endpoints, ..Default::default() })
}

fn in_other_zone(destination: &DestinationId, endpoint: &Endpoint, instance: u32) -> LbEndpoint {
    let Endpoint { address, port, .. } = endpoint;
    LbEndpoint {
        metadata: Some(zone_ingresses::metadata(*address, *port)),
        host_identifier: Some(HostIdentifier::Endpoint(EnvoyEndpoint {
            address: Some(zone_ingresses::address(*address, *port, instance)),
            hostname: destination.instance_sni(instance),
            ..Default::default()
        })),
        ..lb_endpoint(endpoint)
    }
}

fn lb_endpoint(endpoint: &Endpoint) -> LbEndpoint {
    let health = match endpoint.state {
        EndpointState::Healthy => HealthStatus::Healthy,
        EndpointState::Degraded => HealthStatus::Degraded,
    };
    LbEndpoint {
        health_status: health.into(),
        load_balancing_weight: uint(endpoint.weight),
        host_identifier: Some(HostIdentifier::Endpoint(EnvoyEndpoint {
            address: Some(socket_address(endpoint.address, endpoint.port)),
            ..Default::default()
        })),
        ..Default::default()
    }
}
