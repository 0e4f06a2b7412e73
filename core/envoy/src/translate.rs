//! A proxy's model as the set of its resources.

use std::net::IpAddr;
use std::sync::Arc;

use ursa_model::{Capture, Destination, EndpointSet, Inbound, Outbound, Protocol, ProxyModel};

use crate::capture::{self, Side};
use crate::parts::Parts;
use crate::resource::{Interner, Resource, ResourceKey, ResourceType};
use crate::resource_set::ResourceSet;
use crate::{cluster, endpoint, http, listener, tls};

/// Everything but endpoints (see [`endpoint_resource`]) that a proxy needs to do what its model says.
pub fn translate(model: &ProxyModel, interner: &mut Interner) -> ResourceSet {
    let mut out = Resources::by(interner);
    let captured = model.capture.is_some();
    for inbound in &model.inbounds {
        out.inbound(inbound, captured);
    }
    for outbound in &model.outbounds {
        out.outbound(outbound, captured);
    }
    if let Some(capture) = &model.capture {
        out.capture(capture);
    }
    for destination in &model.destinations {
        out.destination(destination);
    }
    if let Some((address, port)) = model.ingress_listener {
        out.ingress(model, address, port);
    }
    out.built.into_iter().collect()
}

/// Whether a resource of this name is about an inbound: whom it lets in, and where they get to. No other resource is.
pub fn is_of_inbound(name: &str) -> bool {
    let prefixes = ["inbound:", "application:", "callers:", "members:", "strangers:"];
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// The endpoints of a destination for those who call it, under the name of its cluster.
pub fn endpoint_resource(cluster: &str, endpoints: &EndpointSet, interner: &mut Interner) -> Arc<Resource> {
    interner.intern(ResourceType::Endpoint, cluster.to_owned(), endpoints, |name| {
        endpoint::callers(name, endpoints)
    })
}

/// The endpoints of a destination for the ingress of their zone, under the name of its cluster.
pub fn ingress_endpoint_resource(
    cluster: &str,
    endpoints: &EndpointSet,
    interner: &mut Interner,
) -> Arc<Resource> {
    interner.intern(ResourceType::Endpoint, cluster.to_owned(), &("ingress", endpoints), |name| {
        endpoint::ingress(name, endpoints)
    })
}

/// What becomes of the resources of parts of a model.
#[derive(Default)]
pub(crate) struct Resources<'a> {
    /// Builds them, unless they are known; `None`: only what they are called is of interest.
    interner: Option<&'a mut Interner>,
    pub(crate) built: Vec<Arc<Resource>>,
    pub(crate) named: Vec<ResourceKey>,
}

impl<'a> Resources<'a> {
    pub(crate) fn by(interner: &'a mut Interner) -> Self {
        Self { interner: Some(interner), ..Self::default() }
    }

    fn add<S: serde::Serialize>(
        &mut self,
        resource_type: ResourceType,
        name: String,
        slice: &S,
        build: impl FnOnce(&str) -> crate::wire::Any,
    ) {
        match &mut self.interner {
            Some(interner) => self.built.push(interner.intern(resource_type, name, slice, build)),
            None => self.named.push(ResourceKey { resource_type, name }),
        }
    }

    /// Of a part that proxies share: what was made of it before, or what `make` makes.
    fn shared<T>(
        &mut self,
        part: &Arc<T>,
        captured: bool,
        parts: fn(&mut Interner) -> &mut Parts<T>,
        make: impl FnOnce(&mut Self, &T),
    ) {
        let made = self.interner.as_mut().and_then(|interner| parts(interner).get(part, captured));
        if let Some(made) = made {
            self.built.extend(made);
            return;
        }
        let start = self.built.len();
        make(self, part);
        if let Some(interner) = &mut self.interner {
            parts(interner).set(part, captured, &self.built[start..]);
        }
    }

    pub(crate) fn inbound(&mut self, inbound: &Inbound, captured: bool) {
        let Inbound { address, port, app_address, app_port, service: _, protocol, tls } = inbound;
        let name = format!("inbound:{address}:{port}");
        let app = format!("application:{address}:{port}");
        // Of one name each, or a change of the protocol would let callers of the old listener in by the new one's rules.
        let secret = if *protocol == Protocol::Tcp { "callers" } else { "members" };
        let callers = format!("{secret}:{address}:{port}");
        self.add(
            ResourceType::Cluster,
            app.clone(),
            &("application", app_address, app_port, protocol, captured),
            |cluster| cluster::application(cluster, *app_address, *app_port, *protocol, captured),
        );
        if let Some(tls) = tls {
            // HTTP callers are judged a request, after the handshake: all of the mesh get through that.
            let accepted = (*protocol == Protocol::Tcp).then_some(tls.allowed.as_slice());
            self.add(ResourceType::Secret, callers.clone(), &(secret, &tls.trust, accepted), |secret| {
                tls::validation_secret(secret, &tls.trust, accepted)
            });
        }
        let permissive = tls.as_ref().is_some_and(|tls| tls.permissive);
        let security = (tls.is_some(), permissive);
        let slice = ("inbound", address, port, app_address, app_port, protocol, security, captured);
        self.add(ResourceType::Listener, name.clone(), &slice, |listener| {
            listener::inbound(listener, inbound, &app, &callers, captured)
        });
        if *protocol != Protocol::Tcp {
            let allowed = tls.as_ref().map(|tls| tls.allowed.as_slice());
            if permissive {
                let strangers = listener::strangers(&name);
                self.add(ResourceType::Route, strangers, &("strangers", &app), |route| {
                    http::inbound_routes(route, &app, None)
                });
            }
            self.add(ResourceType::Route, name, &("inbound", &app, allowed), |route| {
                http::inbound_routes(route, &app, allowed)
            });
        }
    }

    pub(crate) fn outbound(&mut self, outbound: &Arc<Outbound>, captured: bool) {
        let make = |out: &mut Self, outbound: &Outbound| out.make_outbound(outbound, captured);
        self.shared(outbound, captured, |interner| &mut interner.outbounds, make);
    }

    fn make_outbound(&mut self, outbound: &Outbound, captured: bool) {
        let Outbound { address, port, service: _, protocol, shares } = outbound;
        let name = format!("outbound:{address}:{port}");
        if *protocol == Protocol::Tcp {
            let slice = ("outbound", address, port, shares, captured);
            self.add(ResourceType::Listener, name, &slice, |listener| {
                listener::outbound(listener, outbound, captured)
            });
            return;
        }
        let slice = ("outbound", address, port, protocol, captured);
        self.add(ResourceType::Listener, name.clone(), &slice, |listener| {
            listener::outbound(listener, outbound, captured)
        });
        self.add(ResourceType::Route, name, &("outbound", shares), |route| {
            http::outbound_routes(route, outbound)
        });
    }

    pub(crate) fn destination(&mut self, destination: &Arc<Destination>) {
        self.shared(destination, false, |interner| &mut interner.destinations, Self::make_destination);
    }

    fn make_destination(&mut self, destination: &Destination) {
        let Destination { id, protocol, balancer, tls } = destination;
        let name = id.name();
        let peers = format!("peers:{name}");
        if let Some(tls) = tls {
            self.add(ResourceType::Secret, peers.clone(), &("peers", &tls.trust, &tls.peers), |secret| {
                tls::validation_secret(secret, &tls.trust, Some(&tls.peers))
            });
        }
        let slice = ("destination", id, protocol, balancer, tls.is_some());
        self.add(ResourceType::Cluster, name, &slice, |cluster| {
            cluster::destination(cluster, destination, &peers)
        });
    }

    pub(crate) fn capture(&mut self, capture: &Capture) {
        for family in capture::families(capture) {
            let inbound = capture::cluster(family, Side::Inbound);
            let outbound = capture::cluster(family, Side::Outbound);
            for (side, name) in [(Side::Inbound, inbound), (Side::Outbound, outbound)] {
                self.add(ResourceType::Cluster, name, &("capture", family, side), |name| {
                    capture::passthrough(name, family, side)
                });
                let name = capture::listener_name(family, side);
                self.add(ResourceType::Listener, name, &("capture", family, side, capture), |name| {
                    capture::listener(name, family, side, capture)
                });
            }
        }
    }

    fn ingress(&mut self, model: &ProxyModel, address: IpAddr, port: u16) {
        let mut routes = Vec::new();
        for route in &model.ingress_routes {
            let cluster = route.destination.name();
            self.add(ResourceType::Cluster, cluster.clone(), &"ingress", cluster::ingress);
            routes.push((route.destination.sni(), cluster));
        }
        let name = format!("ingress:{address}:{port}");
        self.add(ResourceType::Listener, name, &("ingress", address, port, &routes), |listener| {
            listener::ingress(listener, address, port, &routes)
        });
    }
}
