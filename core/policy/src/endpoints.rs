//! Where the instances of a destination are, and who they may be.
//!
//! Every instance gets the same share: another zone's ingress stands for all instances behind it, shared among the
//! ingresses of the zone.

use std::collections::BTreeSet;

use ursa_crds::Tags;
use ursa_model::{
    DestinationId, Endpoint, EndpointSet, EndpointState, IdentityPattern, TrustDomain, UpstreamTls,
};

use crate::inbound::LocalInbound;
use crate::input::{RemoteService, RemoteZone};
use crate::selector::has;
use crate::services::in_zone;
use crate::view::MeshView;

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
        let multiple = remotes.iter().map(|(remote, _)| count(remote)).fold(1, lcm).min(MAX_MULTIPLE);
        let each = |remote: &RemoteZone, instances: u64| (instances * multiple / count(remote)).max(1);
        let total = remotes.iter().map(|(remote, instances)| each(remote, *instances) * count(remote));
        let scale = (total.sum::<u64>() + multiple * local.len() as u64).div_ceil(MAX_TOTAL).max(1);
        let scaled = |weight: u64| {
            u32::try_from((weight / scale).max(1)).expect("a part of the total is not above MAX_TOTAL")
        };
        // Priorities have no gaps.
        let elsewhere = u32::from(self.input.spec.routing.locality_aware_load_balancing && !local.is_empty());
        let own = local.iter().map(|inbound| Endpoint {
            priority: 0,
            zone: self.input.zone.clone(),
            address: inbound.address,
            port: inbound.port,
            weight: scaled(multiple),
            state: inbound.state,
        });
        let others = remotes.iter().flat_map(|(remote, instances)| {
            let weight = scaled(each(remote, *instances));
            remote.ingresses.iter().map(move |(address, port)| Endpoint {
                priority: elsewhere,
                zone: remote.zone.clone(),
                address: *address,
                port: *port,
                weight,
                state: EndpointState::Healthy,
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
        for endpoint in &mut set.endpoints {
            endpoint.weight = 1;
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
        let inbounds = self.local.get(&destination.service).into_iter().flatten();
        inbounds.filter(|inbound| has(&destination.subset, &inbound.tags))
    }
}

fn remote_services<'a>(
    remote: &'a RemoteZone,
    destination: &DestinationId,
) -> impl Iterator<Item = &'a RemoteService> + use<'a> {
    let wanted: Tags = in_zone(destination);
    remote.services.iter().filter(move |service| {
        let mut tags = service.tags.clone();
        tags.insert(ursa_crds::tag::ZONE.into(), remote.zone.clone());
        has(&wanted, &tags)
    })
}

/// How many instances another zone says that it has.
fn instances(remote: &RemoteZone, destination: &DestinationId) -> u64 {
    let all: u64 = remote_services(remote, destination).map(|service| u64::from(service.instances)).sum();
    all.min(u32::MAX.into())
}

fn count(remote: &RemoteZone) -> u64 {
    remote.ingresses.len() as u64
}

fn lcm(a: u64, b: u64) -> u64 {
    (a / gcd(a, b)).saturating_mul(b)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
