//! What each proxy is to do, from what a zone knows of a mesh.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

use ursa_crds::{DataplaneSpec, MtlsMode, Object, Tags, tag};
use ursa_model::{
    Destination, DestinationId, Inbound, InboundTls, Outbound, Protocol, ProxyId, ProxyModel, TrustDomain,
};

use crate::grants::{Place, is_member, zone_may_carry_name};
use crate::inbound::{LocalInbound, automatic, local_inbounds, protocol};
use crate::input::{MeshInput, RemoteZone, ServiceAddress};
use crate::names::{VirtualAddress, name, virtual_addresses};
use crate::permission::Permissions;
use crate::route::Routes;
use crate::source::Known;
use crate::workload::{Workload, address_in_force};

/// What a zone knows of a mesh, prepared for looking things up.
#[derive(Debug)]
pub struct MeshView {
    pub(crate) input: MeshInput,
    pub(crate) mtls: bool,
    /// Each dataplane of the own zone as the mesh takes it, in the order of the instances.
    workloads: Vec<Workload>,
    /// Inbounds of the own zone by service.
    pub(crate) local: BTreeMap<String, Vec<LocalInbound>>,
    instances: HashMap<String, usize>,
    /// Where services are called, by the names that are in force.
    addresses: Arc<[ServiceAddress]>,
    /// Each service that somebody serves, as it is called by its name.
    named: BTreeMap<String, Named>,
    pub(crate) permissions: Permissions,
    pub(crate) routes: Routes,
    /// Worked out when a permission asks for it.
    pub(crate) known: OnceLock<BTreeSet<Known>>,
}

impl MeshView {
    /// Prepares what is known.
    pub fn new(mut input: MeshInput) -> Self {
        let by_key = |a: &Arc<Object>, b: &Arc<Object>| a.key().cmp(&b.key());
        input.instances.sort_by(|a, b| by_key(&a.dataplane, &b.dataplane));
        input.permissions.sort_by(by_key);
        input.routes.sort_by(by_key);
        input.remotes.sort_by(|a, b| a.zone.cmp(&b.zone));
        leave_out_what_is_not_granted(&mut input);
        let workloads: Vec<Workload> =
            input.instances.iter().map(|instance| Workload::new(&input, &instance.dataplane)).collect();
        let wished = input.addresses.iter().any(|address| address.wished.is_some());
        let addresses = if wished {
            input.addresses.iter().map(|address| address_in_force(&input, address)).collect()
        } else {
            input.addresses.clone()
        };
        let mut local: BTreeMap<String, Vec<LocalInbound>> = BTreeMap::new();
        let mut instances = HashMap::new();
        for (position, (instance, workload)) in input.instances.iter().zip(&workloads).enumerate() {
            instances.insert(instance.dataplane.meta.name.clone(), position);
            if workload.exclusion.is_some() {
                continue;
            }
            for inbound in local_inbounds(instance, workload, &input.zone) {
                local.entry(inbound.tags[tag::SERVICE].clone()).or_default().push(inbound);
            }
        }
        let view = Self {
            named: BTreeMap::new(),
            mtls: input.spec.enabled_backend().is_some(),
            permissions: Permissions::new(&input.permissions),
            routes: Routes::new(&input.routes),
            workloads,
            local,
            instances,
            addresses,
            known: OnceLock::new(),
            input,
        };
        let named = view.name_services();
        Self { named, ..view }
    }

    fn name_services(&self) -> BTreeMap<String, Named> {
        let own = self.local.values().flatten().map(|inbound| &inbound.tags);
        let others =
            self.reachable_remotes().flat_map(|remote| &remote.services).map(|service| &service.tags);
        let mut all: BTreeMap<&str, BTreeSet<u16>> = BTreeMap::new();
        for tags in own.chain(others) {
            let Some(service) = tags.get(tag::SERVICE) else { continue };
            let port = tags.get(tag::PORT).and_then(|port| port.parse::<u16>().ok());
            all.entry(service).or_default().extend(port);
        }
        let addresses = virtual_addresses(&self.input.name, all.keys().copied());
        let named = |(ports, (service, address))| (service, Named { address, ports });
        all.into_values().zip(addresses).map(named).collect()
    }

    /// The names of services, for a workload whose own address is like this one: fully qualified (`redis.demo.mesh`),
    /// ordered.
    pub fn names(&self, own: IpAddr) -> BTreeMap<String, IpAddr> {
        let one = |(service, named): (&String, &Named)| Some((name(service)?, named.address.like(own)));
        self.named.iter().filter_map(one).collect()
    }

    /// The address of a dataplane whose traffic is captured.
    pub fn captured(&self, name: &str) -> Option<IpAddr> {
        let networking = &self.workload(name)?.spec().networking;
        networking.capture.map(|_| networking.address)
    }

    /// The same with other routes.
    #[must_use]
    pub fn with_routes(&self, routes: Vec<Arc<Object>>) -> Self {
        Self::new(MeshInput { routes, ..self.input.clone() })
    }

    /// The roots of every zone known in the mesh; empty while mutual TLS is off.
    pub fn trust(&self) -> &ursa_model::TrustBundle {
        &self.input.trust
    }

    /// Why a dataplane of this zone is not in the mesh, for people; `None` if it is, or is not known.
    pub fn exclusion(&self, name: &str) -> Option<&str> {
        self.workload(name)?.exclusion.as_deref()
    }

    pub(crate) fn workload(&self, name: &str) -> Option<&Workload> {
        Some(&self.workloads[*self.instances.get(name)?])
    }

    /// Those of this zone's workloads that are in the mesh.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.iter().filter(|workload| workload.exclusion.is_none())
    }

    /// What the proxy of a dataplane of this zone is to do; `None` if there is no such dataplane, or it is not in the mesh.
    pub fn proxy(&self, name: &str) -> Option<ProxyModel> {
        let Seen { spec, inbounds: tag_sets, caller } = self.dataplane(name)?;
        let mut used: BTreeMap<DestinationId, ursa_model::Balancer> = BTreeMap::new();
        let mut outbounds = Vec::with_capacity(spec.networking.outbound.len());
        for call in self.calls(spec) {
            let mut chosen = self.routes.choose(&self.input.name, &caller, &call.tags);
            if call.elsewhere {
                chosen.shares.clear();
            }
            for share in &chosen.shares {
                used.entry(share.destination.clone()).or_insert(chosen.balancer);
            }
            outbounds.push(Outbound {
                address: call.address,
                port: call.port,
                service: call.service(),
                protocol: self.protocol(chosen.shares.iter().map(|share| &share.destination)),
                shares: chosen.shares,
            });
        }
        outbounds.sort_by_key(|outbound| (outbound.address, outbound.port));
        let destinations = used
            .into_iter()
            .map(|(id, balancer)| Destination {
                protocol: self.protocol(std::iter::once(&id)),
                tls: self.mtls.then(|| self.upstream_tls(&id)),
                balancer,
                id,
            })
            .collect();
        Some(ProxyModel {
            id: ProxyId::new(&self.input.name, name),
            zone: self.input.zone.clone(),
            inbounds: self.inbounds(spec, &tag_sets),
            outbounds,
            destinations,
            capture: spec.networking.capture.map(|capture| ursa_model::Capture {
                inbound_port: capture.inbound_port,
                outbound_port: capture.outbound_port,
                ipv6: spec.networking.address.is_ipv6(),
                // With mutual TLS nobody comes in whom no permission was asked for.
                unknown_inbound: !self.mtls || self.is_permissive(),
                unknown_outbound: self.input.spec.networking.outbound.passthrough,
            }),
            ingress_routes: Vec::new(),
            ingress_listener: None,
        })
    }

    /// A dataplane of this zone that is in the mesh, as policies see it.
    pub(crate) fn dataplane(&self, name: &str) -> Option<Seen<'_>> {
        let workload = self.workload(name).filter(|workload| workload.exclusion.is_none())?;
        let spec = workload.spec();
        let tags = |inbound| automatic(inbound, name, &self.input.zone);
        let inbounds: Vec<Tags> = spec.networking.inbound.iter().map(tags).collect();
        let pod = spec.pod.as_ref().map(|pod| {
            let mut tags = pod.tags.clone();
            tags.insert(tag::ZONE.into(), self.input.zone.clone());
            tags
        });
        let caller = inbounds.iter().cloned().chain(pod).collect();
        Some(Seen { spec, inbounds, caller })
    }

    /// What the proxy serves, ordered by address and port. Several services of a pod may share a port: then whoever may
    /// call one of them is let in, unless a `Deny` of another is against it.
    fn inbounds(&self, spec: &DataplaneSpec, tag_sets: &[Tags]) -> Vec<Inbound> {
        let mut by_port: BTreeMap<u16, Vec<(&ursa_crds::Inbound, &Tags)>> = BTreeMap::new();
        for pair in spec.networking.inbound.iter().zip(tag_sets) {
            by_port.entry(pair.0.port).or_default().push(pair);
        }
        let address = spec.networking.address;
        // Who captures does not bind the application's port: it may listen at the host's own address.
        let here = if spec.networking.capture.is_some() { address } else { Ipv4Addr::LOCALHOST.into() };
        let inbound = |(port, all): (u16, Vec<(&ursa_crds::Inbound, &Tags)>)| {
            let (first, _) = all[0];
            let first_protocol = protocol(first.protocol());
            let one_protocol = all.iter().all(|(inbound, _)| protocol(inbound.protocol()) == first_protocol);
            let tags: Vec<&Tags> = all.iter().map(|(_, tags)| *tags).collect();
            Inbound {
                address,
                port,
                app_address: first.service_address.unwrap_or(here),
                app_port: first.service_port.unwrap_or(port),
                service: first.service().to_owned(),
                protocol: if one_protocol { first_protocol } else { Protocol::Tcp },
                tls: self.mtls.then(|| InboundTls {
                    trust: self.input.trust.clone(),
                    allowed: self
                        .permissions
                        .callers(&tags, &self.input.spec, &self.zones(), || self.known_identities()),
                    permissive: self.is_permissive(),
                }),
            }
        };
        by_port.into_iter().map(inbound).collect()
    }

    /// What a workload calls, and where: what its dataplane names, and if its traffic is captured every service that
    /// is known in the mesh.
    pub(crate) fn calls<'a>(&'a self, spec: &'a DataplaneSpec) -> impl Iterator<Item = Call> + 'a {
        let named = spec.networking.outbound.iter().map(|outbound| Call {
            address: outbound.local_address(),
            port: outbound.port,
            tags: outbound.tags.clone(),
            elsewhere: false,
        });
        let own = spec.networking.address;
        let known = self.addresses.iter().filter(move |known| {
            spec.networking.capture.is_some()
                // What the workload sends to itself is no call of others.
                && known.address != own
                && known.address.is_ipv6() == own.is_ipv6()
                && (known.meshed || self.serves(&known.service, known.service_port))
        });
        let captured = spec.networking.capture.map(|_| &self.named);
        let by_name = captured.into_iter().flatten().flat_map(move |(service, named)| {
            let call = move |port: &u16| {
                let port_tag = (tag::PORT.to_owned(), port.to_string());
                let tags = [(tag::SERVICE.to_owned(), service.clone()), port_tag].into();
                Call { address: named.address.like(own), port: *port, tags, elsewhere: false }
            };
            named.ports.iter().map(call)
        });
        named.chain(by_name).chain(known.map(|known| {
            let port = (tag::PORT.to_owned(), known.service_port.to_string());
            let instance = known.instance.as_ref().map(|name| (tag::INSTANCE.to_owned(), name.clone()));
            let service = (tag::SERVICE.to_owned(), known.service.clone());
            let tags = [service, port].into_iter().chain(instance).collect();
            let elsewhere = !self.serves(&known.service, known.service_port);
            Call { address: known.address, port: known.port, tags, elsewhere }
        }))
    }

    /// Whether anybody of the mesh serves a service at a port.
    fn serves(&self, service: &str, port: u16) -> bool {
        let port = port.to_string();
        let of_port = |tags: &Tags| tags.get(tag::PORT).is_none_or(|named| *named == port);
        let here = self.local.get(service).into_iter().flatten().any(|inbound| of_port(&inbound.tags));
        let mut elsewhere = self.reachable_remotes().flat_map(|remote| &remote.services);
        here || elsewhere.any(|other| {
            other.tags.get(tag::SERVICE).is_some_and(|name| name == service) && of_port(&other.tags)
        })
    }

    fn is_permissive(&self) -> bool {
        self.input.spec.mtls.as_ref().is_some_and(|mtls| mtls.mode == MtlsMode::Permissive)
    }

    /// Names of the zones whose roots are known.
    fn zones(&self) -> Vec<TrustDomain> {
        let domain =
            |name: &String| Some(TrustDomain::new(zone_of(name, &self.input.name)?, &self.input.name));
        self.input.trust.keys().filter_map(domain).collect()
    }

    /// The other zones, as far as traffic may go there: without mutual TLS it stays at home, and without a zone's roots
    /// every handshake with it would fail.
    pub(crate) fn reachable_remotes(&self) -> impl Iterator<Item = &RemoteZone> {
        let trusted =
            |zone: &str| self.input.trust.contains_key(&TrustDomain::new(zone, &self.input.name).to_string());
        self.input.remotes.iter().filter(move |remote| self.mtls && trusted(&remote.zone))
    }

    /// Whether traffic may go to another zone.
    pub fn is_reachable(&self, zone: &str) -> bool {
        self.reachable_remotes().any(|remote| remote.zone == zone)
    }

    /// What all these destinations speak, or opaque bytes if they disagree. One that nobody serves has no say: a route
    /// that names it early must not turn HTTP into opaque bytes.
    fn protocol<'a>(&'a self, destinations: impl Iterator<Item = &'a DestinationId>) -> Protocol {
        let mut protocols = destinations.flat_map(|destination| self.protocols(destination));
        let first = protocols.next().unwrap_or_default();
        if protocols.all(|protocol| protocol == first) { first } else { Protocol::Tcp }
    }

    /// What each instance of a service speaks, at the destination's port if it names one.
    fn protocols<'a>(&'a self, destination: &'a DestinationId) -> impl Iterator<Item = Protocol> + 'a {
        let DestinationId { service, subset, .. } = destination;
        let port = subset.get(tag::PORT);
        let of_port =
            move |tags: &Tags| port.is_none_or(|port| tags.get(tag::PORT).is_none_or(|named| named == port));
        let own = self.local.get(service).into_iter().flatten();
        let own = own.filter(move |inbound| of_port(&inbound.tags)).map(|inbound| inbound.protocol);
        let others = self.reachable_remotes().flat_map(|remote| &remote.services);
        let others = others.filter(move |s| s.tags.get(tag::SERVICE) == Some(service) && of_port(&s.tags));
        own.chain(others.map(|s| s.protocol))
    }
}

/// Of the other zones only that counts which the mesh grants them, whatever they say.
fn leave_out_what_is_not_granted(input: &mut MeshInput) {
    let MeshInput { name, spec, trust, remotes, .. } = input;
    let is_member = |zone: &str| is_member(spec, Place::zone(zone));
    trust.retain(|domain, _| zone_of(domain, name).is_some_and(is_member));
    remotes.retain(|remote| is_member(&remote.zone));
    for remote in remotes {
        let zone = &remote.zone;
        remote.services.retain(|service| {
            service.tags.get(tag::SERVICE).is_some_and(|name| zone_may_carry_name(spec, zone, name))
        });
    }
}

/// The zone of a trust domain's name.
pub(crate) fn zone_of<'a>(domain: &'a str, mesh: &str) -> Option<&'a str> {
    let (zone, of) = domain.strip_suffix(".ursa")?.split_once('.')?;
    (of == mesh).then_some(zone)
}

/// A service as it is called by its name.
#[derive(Debug)]
struct Named {
    address: VirtualAddress,
    ports: BTreeSet<u16>,
}

/// A dataplane as policies see it.
pub(crate) struct Seen<'a> {
    pub(crate) spec: &'a DataplaneSpec,
    /// The tags of each inbound, in their order.
    pub(crate) inbounds: Vec<Tags>,
    /// What it may be taken for when it calls.
    pub(crate) caller: Vec<Tags>,
}

/// An address that a workload calls, and what is meant by it.
pub(crate) struct Call {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) tags: Tags,
    /// It is of another mesh: refused.
    pub(crate) elsewhere: bool,
}

impl Call {
    pub(crate) fn service(&self) -> String {
        self.tags.get(tag::SERVICE).cloned().unwrap_or_default()
    }
}
