//! What each proxy is to do, from what a zone knows of a mesh.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ursa_crds::{DataplaneSpec, Object, Protocol as TagProtocol, Spec, Tags, tag};
use ursa_model::{
    Destination, Inbound, InboundTls, Outbound, Protocol, ProxyId, ProxyModel, SpiffeId, TrustDomain,
};

use crate::input::{Instance, MeshInput, RemoteZone};
use crate::permission::Permissions;
use crate::route::Routes;

/// An inbound of the own zone, with the tags that policies see.
#[derive(Clone, Debug)]
pub(crate) struct LocalInbound {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    /// With the automatic tags.
    pub(crate) tags: Tags,
    pub(crate) protocol: Protocol,
    /// The service in the certificate.
    pub(crate) primary: String,
    pub(crate) state: ursa_model::EndpointState,
    /// Ready, and not about to stop.
    pub(crate) serves: bool,
}

/// What a zone knows of a mesh, prepared for looking things up.
#[derive(Debug)]
pub struct MeshView {
    pub(crate) input: MeshInput,
    pub(crate) mtls: bool,
    /// Inbounds of the own zone by service.
    pub(crate) local: BTreeMap<String, Vec<LocalInbound>>,
    instances: HashMap<String, usize>,
    pub(crate) permissions: Permissions,
    pub(crate) routes: Routes,
}

impl MeshView {
    /// Prepares what is known.
    pub fn new(mut input: MeshInput) -> Self {
        let by_key = |a: &Arc<Object>, b: &Arc<Object>| a.key().cmp(&b.key());
        input.instances.sort_by(|a, b| by_key(&a.dataplane, &b.dataplane));
        input.permissions.sort_by(by_key);
        input.routes.sort_by(by_key);
        input.remotes.sort_by(|a, b| a.zone.cmp(&b.zone));
        let mut local: BTreeMap<String, Vec<LocalInbound>> = BTreeMap::new();
        let mut instances = HashMap::new();
        for (position, instance) in input.instances.iter().enumerate() {
            instances.insert(instance.dataplane.meta.name.clone(), position);
            for inbound in local_inbounds(instance, &input.zone) {
                local.entry(inbound.tags[tag::SERVICE].clone()).or_default().push(inbound);
            }
        }
        Self {
            mtls: input.spec.enabled_backend().is_some(),
            permissions: Permissions::new(&input.permissions),
            routes: Routes::new(&input.routes),
            local,
            instances,
            input,
        }
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

    /// The identity of a dataplane of this zone.
    pub fn identity(&self, dataplane: &Object) -> SpiffeId {
        let domain = TrustDomain::new(&self.input.zone, &self.input.name);
        SpiffeId::universal(domain, primary_service(dataplane_spec(dataplane)), &dataplane.meta.name)
    }

    /// What the proxy of a dataplane of this zone is to do; `None` if there is no such dataplane.
    pub fn proxy(&self, name: &str) -> Option<ProxyModel> {
        let (spec, tag_sets) = self.dataplane(name)?;
        let mut inbounds: Vec<Inbound> = spec
            .networking
            .inbound
            .iter()
            .zip(&tag_sets)
            .map(|(inbound, tags)| self.inbound(spec, inbound, tags))
            .collect();
        inbounds.sort_by_key(|inbound| (inbound.address, inbound.port));
        let mut used: BTreeMap<ursa_model::DestinationId, ursa_model::Balancer> = BTreeMap::new();
        let mut outbounds = Vec::with_capacity(spec.networking.outbound.len());
        for outbound in &spec.networking.outbound {
            let chosen = self.routes.choose(&self.input.name, &tag_sets, &outbound.tags);
            for share in &chosen.shares {
                used.entry(share.destination.clone()).or_insert(chosen.balancer);
            }
            outbounds.push(Outbound {
                address: outbound.local_address(),
                port: outbound.port,
                service: outbound.service().to_owned(),
                protocol: self.protocol(chosen.shares.iter().map(|share| share.destination.service.as_str())),
                shares: chosen.shares,
            });
        }
        outbounds.sort_by_key(|outbound| (outbound.address, outbound.port));
        let destinations = used
            .into_iter()
            .map(|(id, balancer)| Destination {
                protocol: self.protocol(std::iter::once(id.service.as_str())),
                tls: self.mtls.then(|| self.upstream_tls(&id)),
                balancer,
                id,
            })
            .collect();
        Some(ProxyModel {
            id: ProxyId::new(&self.input.name, name),
            zone: self.input.zone.clone(),
            inbounds,
            outbounds,
            destinations,
            ingress_routes: Vec::new(),
            ingress_listener: None,
        })
    }

    /// A dataplane of this zone, with the tags of each inbound as policies see them.
    pub(crate) fn dataplane(&self, name: &str) -> Option<(&DataplaneSpec, Vec<Tags>)> {
        let spec = dataplane_spec(&self.input.instances[*self.instances.get(name)?].dataplane);
        let tag_sets = spec.networking.inbound.iter().map(|i| automatic(&i.tags, &self.input.zone)).collect();
        Some((spec, tag_sets))
    }

    fn inbound(&self, spec: &DataplaneSpec, inbound: &ursa_crds::Inbound, tags: &Tags) -> Inbound {
        Inbound {
            address: spec.networking.address,
            port: inbound.port,
            app_address: inbound.service_address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            app_port: inbound.service_port.unwrap_or(inbound.port),
            service: inbound.service().to_owned(),
            protocol: protocol(inbound.protocol()),
            tls: self.mtls.then(|| InboundTls {
                trust: self.input.trust.clone(),
                allowed: self.permissions.callers(tags, &self.zones(), || self.known_identities()),
            }),
        }
    }

    /// Names of the zones whose roots are known.
    fn zones(&self) -> Vec<TrustDomain> {
        let domain = |name: &String| {
            let zone = name.strip_suffix(".ursa")?.split_once('.')?.0;
            Some(TrustDomain::new(zone, &self.input.name))
        };
        self.input.trust.keys().filter_map(domain).collect()
    }

    /// (zone, primary service) of every workload that is known.
    fn known_identities(&self) -> BTreeSet<(TrustDomain, String)> {
        let domain = |zone: &str| TrustDomain::new(zone, &self.input.name);
        let own = self.input.instances.iter().map(|instance| {
            (domain(&self.input.zone), primary_service(dataplane_spec(&instance.dataplane)).to_owned())
        });
        let others = self.input.remotes.iter().flat_map(|remote| {
            let services = remote.services.iter().flat_map(|service| &service.identity_services);
            services.map(|service| (domain(&remote.zone), service.clone()))
        });
        own.chain(others).collect()
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

    /// What all these services speak, or opaque bytes if they disagree. One that nobody serves has no say: a route
    /// that names it early must not turn HTTP into opaque bytes.
    fn protocol<'a>(&'a self, services: impl Iterator<Item = &'a str>) -> Protocol {
        let mut protocols = services.flat_map(|service| self.protocols(service));
        let first = protocols.next().unwrap_or_default();
        if protocols.all(|protocol| protocol == first) { first } else { Protocol::Tcp }
    }

    /// What each instance of a service speaks.
    fn protocols<'a>(&'a self, service: &'a str) -> impl Iterator<Item = Protocol> + 'a {
        let own = self.local.get(service).into_iter().flatten().map(|inbound| inbound.protocol);
        let others = self.reachable_remotes().flat_map(|remote| &remote.services);
        let others = others.filter(move |s| s.tags.get(tag::SERVICE).is_some_and(|name| name == service));
        own.chain(others.map(|s| s.protocol))
    }
}

fn dataplane_spec(object: &Object) -> &DataplaneSpec {
    match &object.spec {
        Spec::Dataplane(spec) => spec,
        other => unreachable!("instances hold dataplanes, not {}", other.kind()),
    }
}

/// The service in the workload's certificate.
fn primary_service(spec: &DataplaneSpec) -> &str {
    spec.networking.inbound.first().map_or("-", ursa_crds::Inbound::service)
}

/// The user's tags, and those that are set for them.
fn automatic(tags: &Tags, zone: &str) -> Tags {
    let mut tags = tags.clone();
    tags.insert(tag::ZONE.into(), zone.into());
    tags.entry(tag::PROTOCOL.into()).or_insert_with(|| "tcp".into());
    tags
}

/// What a protocol's tag means for proxies.
pub fn protocol(tag: TagProtocol) -> Protocol {
    match tag {
        TagProtocol::Tcp => Protocol::Tcp,
        TagProtocol::Http => Protocol::Http,
        TagProtocol::Http2 | TagProtocol::Grpc => Protocol::Http2,
    }
}

fn local_inbounds<'a>(instance: &'a Instance, zone: &'a str) -> impl Iterator<Item = LocalInbound> + 'a {
    let spec = dataplane_spec(&instance.dataplane);
    spec.networking.inbound.iter().map(move |inbound| LocalInbound {
        address: spec.networking.address,
        port: inbound.port,
        tags: automatic(&inbound.tags, zone),
        protocol: protocol(inbound.protocol()),
        primary: primary_service(spec).to_owned(),
        state: instance.state,
        serves: !instance.out_of_service && !instance.unready_ports.contains(&inbound.port),
    })
}
