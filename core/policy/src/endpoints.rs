//! Where the instances of a destination are, and who they may be.
//!
//! Every instance is an endpoint and gets the same share, wherever it is; those of other zones are reached through any
//! ingress of their zone.

use std::collections::BTreeSet;

use ursa_crds::Tags;
use ursa_model::{
    DestinationId, Endpoint, EndpointSet, EndpointState, IdentityPattern, TrustDomain, UpstreamTls,
};

use crate::inbound::LocalInbound;
use crate::input::{RemoteService, RemoteZone};
use crate::selector::{has, has_in_zone};
use crate::services::in_zone;
use crate::view::MeshView;

/// How many instances of another zone are told apart, which is what a proxy spends memory on.
const MAX_INSTANCES: u32 = 1_000;
/// Beyond this weights are rounded.
const MAX_MULTIPLE: u64 = 5_040;
/// Beyond this in sum weights are scaled down: Envoy refuses a sum of more than 32 bits, and other zones say the counts.
const MAX_TOTAL: u64 = 1 << 31;

impl MeshView {
    /// The instances of a destination as this zone's proxies reach them.
    pub fn endpoints(&self, destination: &DestinationId) -> EndpointSet {
        let remotes: Vec<(&RemoteZone, u64)> = self
            .reachable_remotes()
            .map(|remote| (remote, instances(remote, destination)))
            .filter(|(remote, instances)| !remote.ingresses.is_empty() && *instances > 0)
            .collect();
        let local: Vec<&LocalInbound> =
            self.local_inbounds(destination).filter(|inbound| inbound.serves).collect();
        let counts: Vec<(u64, u64)> =
            remotes.iter().map(|(remote, instances)| (remote.ingresses.len() as u64, *instances)).collect();
        let Weights { local: weight, others: weights } = weights(local.len() as u64, &counts);
        // Priorities have no gaps.
        let elsewhere = u32::from(self.input.spec.routing.locality_aware_load_balancing && !local.is_empty());
        let own = local.iter().map(|inbound| Endpoint {
            priority: 0,
            zone: self.input.zone.clone(),
            address: inbound.address,
            port: inbound.port,
            weight,
            state: inbound.state,
            instance: None,
        });
        let others = remotes.iter().zip(weights).flat_map(|((remote, instances), weight)| {
            let ways =
                remote.ingresses.iter().flat_map(|way| (0..told_apart(*instances)).map(move |k| (way, k)));
            ways.map(move |((address, port), instance)| Endpoint {
                priority: elsewhere,
                zone: remote.zone.clone(),
                address: *address,
                port: *port,
                weight,
                state: EndpointState::Healthy,
                instance: Some(instance),
            })
        });
        let mut endpoints: Vec<Endpoint> = own.chain(others).collect();
        endpoints.sort();
        EndpointSet { destination: destination.clone(), endpoints }
    }

    /// The instances of a destination in this zone alone: what its ingress passes traffic on to.
    pub fn local_endpoints(&self, destination: &DestinationId) -> EndpointSet {
        let mut set = self.endpoints(destination);
        set.endpoints.retain(|endpoint| endpoint.zone == self.input.zone);
        for (instance, endpoint) in (0..).zip(&mut set.endpoints) {
            (endpoint.weight, endpoint.instance) = (1, Some(instance));
        }
        set
    }

    /// Who may answer as this destination.
    pub(crate) fn upstream_tls(&self, destination: &DestinationId) -> UpstreamTls {
        let mut peers: BTreeSet<(String, String)> = self
            .local_inbounds(destination)
            .map(|inbound| (self.input.zone.clone(), inbound.primary.clone()))
            .collect();
        for remote in self.reachable_remotes() {
            for service in remote_services(remote, destination) {
                peers
                    .extend(service.identity_services.iter().map(|name| (remote.zone.clone(), name.clone())));
            }
        }
        let domain = |zone: &str| TrustDomain::new(zone, &self.input.name);
        let names: BTreeSet<String> = peers.iter().map(|(zone, _)| domain(zone).to_string()).collect();
        let trust = self.input.trust.iter().filter(|(name, _)| names.contains(*name));
        UpstreamTls {
            trust: trust.map(|(name, roots)| (name.clone(), roots.clone())).collect(),
            peers: peers
                .iter()
                .map(|(zone, service)| IdentityPattern::Service(domain(zone), service.clone()))
                .collect(),
        }
    }

    pub(crate) fn local_inbounds<'a>(
        &'a self,
        destination: &'a DestinationId,
    ) -> impl Iterator<Item = &'a LocalInbound> {
        let inbounds = self.local.of(&destination.service);
        inbounds.filter(|inbound| has(&destination.subset, &inbound.tags))
    }
}

fn remote_services<'a>(
    remote: &'a RemoteZone,
    destination: &DestinationId,
) -> impl Iterator<Item = &'a RemoteService> + use<'a> {
    let wanted: Tags = in_zone(destination);
    remote.services.iter().filter(move |service| has_in_zone(&wanted, &remote.zone, &service.tags))
}

/// How many instances another zone says that it has.
fn instances(remote: &RemoteZone, destination: &DestinationId) -> u64 {
    let all: u64 = remote_services(remote, destination).map(|service| u64::from(service.instances)).sum();
    all.min(u32::MAX.into())
}

fn told_apart(instances: u64) -> u32 {
    u32::try_from(instances).unwrap_or(u32::MAX).min(MAX_INSTANCES)
}

/// Weights of endpoints.
#[derive(Debug, PartialEq, Eq)]
struct Weights {
    local: u32,
    /// Of each zone's.
    others: Vec<u32>,
}

/// How much an endpoint counts when each instance is to get the same. `others`: ingresses and instances of each zone.
fn weights(local: u64, others: &[(u64, u64)]) -> Weights {
    let multiple = others.iter().map(|(ways, _)| *ways).fold(1, lcm).min(MAX_MULTIPLE);
    let endpoints = |ways: u64, instances: u64| u64::from(told_apart(instances)) * ways;
    let each = |ways: u64, instances: u64| (instances * multiple / endpoints(ways, instances)).max(1);
    let elsewhere =
        others.iter().map(|(ways, instances)| each(*ways, *instances) * endpoints(*ways, *instances));
    let scale = (elsewhere.sum::<u64>() + multiple * local).div_ceil(MAX_TOTAL).max(1);
    let scaled = |weight: u64| {
        u32::try_from((weight / scale).max(1)).expect("a part of the total is not above MAX_TOTAL")
    };
    Weights {
        local: scaled(multiple),
        others: others.iter().map(|(ways, instances)| scaled(each(*ways, *instances))).collect(),
    }
}

fn lcm(a: u64, b: u64) -> u64 {
    (a / gcd(a, b)).saturating_mul(b)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instance_gets_the_same_however_many_ways_lead_to_it() {
        let Weights { local, others } = weights(2, &[(2, 3), (3, 1)]);
        assert_eq!((local, &others[..]), (6, &[3, 2][..]), "shares of an instance: 6, 2 x 3 and 3 x 2");
        assert_eq!(weights(0, &[(1, 4)]), Weights { local: 1, others: vec![1] });
    }

    #[test]
    fn who_is_not_told_apart_counts_all_the_same() {
        let many = u64::from(MAX_INSTANCES) * 3;
        assert_eq!(weights(1, &[(1, many)]), Weights { local: 1, others: vec![3] });
    }

    #[test]
    fn however_many_instances_a_zone_claims_to_have_envoy_takes_the_weights() {
        let absurd = u64::from(u32::MAX);
        let zones = [(3, absurd), (2, absurd)];
        let Weights { local, others } = weights(1, &zones);
        let of = |(weight, (ways, instances)): (&u32, &(u64, u64))| {
            u64::from(*weight) * ways * u64::from(told_apart(*instances))
        };
        let total = u64::from(local) + others.iter().zip(&zones).map(of).sum::<u64>();
        assert!(local > 0 && others.iter().all(|weight| *weight > 0) && total <= u32::MAX.into(), "{total}");
    }
}
