//! Endpoints: one locality a zone and priority; shares follow the weights of the endpoints alone.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::{HealthStatus, Locality};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as EnvoyEndpoint, LbEndpoint, LocalityLbEndpoints,
    lb_endpoint::HostIdentifier,
};
use envoy_types::pb::google::protobuf::Any;
use ursa_model::{Endpoint, EndpointState};

use crate::pack::{any, socket_address, uint};

pub(crate) fn load_assignment(name: &str, endpoints: &[Endpoint]) -> Any {
    let mut localities: BTreeMap<(u32, &str), Vec<LbEndpoint>> = BTreeMap::new();
    for endpoint in endpoints {
        localities.entry((endpoint.priority, &endpoint.zone)).or_default().push(lb_endpoint(endpoint));
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
