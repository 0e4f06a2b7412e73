//! Where other zones reach a zone ingress: what is given, else what its Service has.

use std::net::IpAddr;

use ursa_crds::{ServiceType, SocketSpec, ZoneIngress};

use super::Source;
use crate::zone_ingress::observe::{NodeFacts, Observed, SeenService};

/// Where it is reached.
pub(super) enum Reach {
    /// There; the reason for programs, and for people.
    At(SocketSpec, &'static str, String),
    /// That is not known: the reason for programs, and for people.
    NotYet(&'static str, String),
}

pub(super) fn find(source: &Source<'_>, ingress: &ZoneIngress, observed: &Observed) -> Reach {
    if let Some(given) = source.spec.advertised {
        return Reach::At(given, "Given", "as spec.advertised says".into());
    }
    let wanted = source.service.service_type;
    let Some(service) = observed.service.as_ref().filter(|seen| seen.service_type == wanted.as_str()) else {
        return Reach::NotYet("WaitingForService", "the Service is being made".into());
    };
    match wanted {
        ServiceType::LoadBalancer => by_balancer(service, source.service.port),
        ServiceType::NodePort => by_node(service, observed, last(ingress)),
        ServiceType::ClusterIP => match service.cluster_ip {
            Some(address) => Reach::At(
                SocketSpec { address, port: source.service.port },
                "ClusterIP",
                "reached only from where the cluster's own network is".into(),
            ),
            None => Reach::NotYet("WaitingForService", "the Service has no address yet".into()),
        },
    }
}

/// Where it was reached last, as long as the same is asked for: until another place is found, that one counts.
pub(super) fn last(ingress: &ZoneIngress) -> Option<SocketSpec> {
    let status = ingress.status.as_ref()?;
    if status.observed_generation != ingress.metadata.generation {
        return None;
    }
    Some(SocketSpec { address: status.address.as_deref()?.parse().ok()?, port: status.port? })
}

fn by_balancer(service: &SeenService, port: u16) -> Reach {
    if let Some(address) = service.balancer_ips.first() {
        return Reach::At(
            SocketSpec { address: *address, port },
            "LoadBalancer",
            "as the load balancer says".into(),
        );
    }
    match service.balancer_names.first() {
        Some(name) => Reach::NotYet(
            "HostnameOnly",
            format!(
                "the load balancer has the name {name} and no address, and other zones need one: give an IP address that leads to it in spec.advertised"
            ),
        ),
        None => Reach::NotYet(
            "WaitingForLoadBalancer",
            "the load balancer has no address yet; a cluster that has no load balancers needs service.type NodePort, or spec.advertised".into(),
        ),
    }
}

fn by_node(service: &SeenService, observed: &Observed, last: Option<SocketSpec>) -> Reach {
    let Some(port) = service.node_port else {
        return Reach::NotYet("WaitingForService", "the Service has no port of nodes yet".into());
    };
    let Some(nodes) = &observed.nodes else {
        return Reach::NotYet("WaitingForNodes", "the nodes are not listed yet".into());
    };
    let ready = nodes.iter().filter(|(_, node)| node.ready);
    let mut candidates: Vec<(bool, bool, &str, IpAddr)> = ready
        .filter_map(|(name, node)| {
            let NodeFacts { ready: _, external, internal } = node;
            let address = external.first().or(internal.first())?;
            Some((external.is_empty(), !observed.serving.contains(name), name.as_str(), *address))
        })
        .collect();
    candidates.sort();
    // A node that does stays: others know it.
    let same = |address: &IpAddr| last.is_some_and(|last| last.address == *address);
    let best = candidates.first().map(|(inside, ..)| *inside);
    let kept = candidates.iter().find(|(inside, _, _, address)| Some(*inside) == best && same(address));
    match kept.or(candidates.first()) {
        Some((inside, _, name, address)) => {
            let from = if *inside { ", at an address of the cluster's network" } else { "" };
            let socket = SocketSpec { address: *address, port };
            Reach::At(socket, "NodePort", format!("at node {name}{from}"))
        }
        None => Reach::NotYet("NoReadyNode", "no node that is ready has an address".into()),
    }
}
