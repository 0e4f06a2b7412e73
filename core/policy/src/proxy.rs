//! What one proxy is to do.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ursa_crds::{DataplaneSpec, Tags, tag};
use ursa_model::{Balancer, DestinationId, Inbound, InboundTls, Outbound, Protocol, ProxyId, ProxyModel};

use crate::facts::Facts;
use crate::inbound::protocol;
use crate::route::Chosen;
use crate::view::{MeshView, Seen};

impl MeshView {
    /// What the proxy of a dataplane of this zone is to do; `None` if there is no such dataplane, or it is not in the mesh.
    pub fn proxy(&self, name: &str) -> Option<ProxyModel> {
        let seen = self.dataplane(name)?;
        let Seen { spec, inbounds: _, caller } = &seen;
        let mut calls: Vec<_> = self.calls(spec).map(|call| self.outbound(&call, caller)).collect();
        let mut used: BTreeMap<&DestinationId, Balancer> = BTreeMap::new();
        for (outbound, balancer) in &calls {
            for share in &outbound.shares {
                used.entry(&share.destination).or_insert(*balancer);
            }
        }
        let destinations = used.into_iter().map(|(id, balancer)| self.destination(id, balancer)).collect();
        calls.sort_by_key(|(outbound, _)| place(outbound));
        let outbounds = calls.into_iter().map(|(outbound, _)| outbound).collect();
        Some(ProxyModel {
            id: ProxyId::new(&self.input.name, name),
            zone: self.input.zone.clone(),
            inbounds: self.inbounds(name, &seen),
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

    /// What a proxy that did this is to do after calls of these services go elsewhere, and who calls these destinations
    /// has to know something else; `None`: it has to be worked out as a whole.
    pub fn proxy_after(
        &self,
        before: &ProxyModel,
        services: &BTreeSet<String>,
        destinations: &BTreeSet<DestinationId>,
    ) -> Option<ProxyModel> {
        let Seen { spec, inbounds: _, caller } = self.dataplane(&before.id.name)?;
        let mut model = before.clone();
        let mut concerned: BTreeSet<DestinationId> = destinations.clone();
        let mut calls = 0;
        for call in self.calls(spec) {
            calls += 1;
            let known = &mut model.outbounds[position(&before.outbounds, &call)?];
            let goes_there = |outbound: &Outbound| {
                outbound.shares.iter().any(|share| destinations.contains(&share.destination))
            };
            if services.contains(call.service()) || goes_there(known) {
                let (new, _) = self.outbound(&call, &caller);
                let former = std::mem::replace(known, new.clone());
                let shares = former.shares.iter().chain(&new.shares);
                concerned.extend(shares.map(|share| share.destination.clone()));
            }
        }
        if calls != before.outbounds.len() {
            return None;
        }
        // Several calls may go there; the first says how.
        let mut used: BTreeMap<&DestinationId, Balancer> = BTreeMap::new();
        for call in self.calls(spec) {
            let outbound = &model.outbounds[position(&before.outbounds, &call)?];
            for share in outbound.shares.iter().filter(|share| concerned.contains(&share.destination)) {
                used.entry(&share.destination).or_insert_with(|| self.choose(&call, &caller).balancer);
            }
        }
        let destinations: Vec<_> =
            used.into_iter().map(|(id, balancer)| self.destination(id, balancer)).collect();
        model.destinations.retain(|destination| !concerned.contains(&destination.id));
        model.destinations.extend(destinations);
        model.destinations.sort_by(|a, b| a.id.cmp(&b.id));
        Some(model)
    }

    pub(crate) fn choose(&self, call: &Call<'_>, caller: &[Tags]) -> Chosen {
        let mut chosen = self.followed().choose(&self.input.name, caller, &call.tags);
        if call.elsewhere {
            chosen.shares.clear();
        }
        chosen
    }

    fn outbound(&self, call: &Call<'_>, caller: &[Tags]) -> (Arc<Outbound>, Balancer) {
        let Chosen { shares, balancer } = self.choose(call, caller);
        let facts: Vec<_> = shares.iter().map(|share| self.facts(&share.destination)).collect();
        let outbound = Outbound {
            address: call.address,
            port: call.port,
            service: call.service().to_owned(),
            protocol: Facts::protocol(&facts),
            shares,
        };
        (self.memory.share(outbound), balancer)
    }

    /// What the proxy of such a dataplane serves, which is all that permissions decide on.
    pub fn proxy_inbounds(&self, name: &str) -> Option<Vec<Inbound>> {
        Some(self.inbounds(name, &self.dataplane(name)?))
    }

    /// What the proxy serves, ordered by address and port. Several services of a pod may share a port: then whoever may
    /// call one of them is let in, unless a `Deny` of another is against it.
    fn inbounds(&self, name: &str, Seen { spec, inbounds: tag_sets, caller: _ }: &Seen<'_>) -> Vec<Inbound> {
        let mut by_port: BTreeMap<u16, Vec<(&ursa_crds::Inbound, &Tags)>> = BTreeMap::new();
        for pair in spec.networking.inbound.iter().zip(tag_sets) {
            by_port.entry(pair.0.port).or_default().push(pair);
        }
        let address = spec.networking.address;
        // Who captures does not bind the application's port: it may listen at the host's own address.
        let here = if spec.networking.capture.is_some() { address } else { Ipv4Addr::LOCALHOST.into() };
        let zones = self.zones();
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
                    allowed: self.permissions.callers(&tags, &self.input.spec, &zones, || {
                        self.memory.depends_on_known(name);
                        self.known_identities()
                    }),
                    permissive: self.is_permissive(),
                }),
            }
        };
        by_port.into_iter().map(inbound).collect()
    }

    /// What a workload calls, and where: what its dataplane names, and if its traffic is captured every service that
    /// is known in the mesh.
    pub(crate) fn calls<'a>(&'a self, spec: &'a DataplaneSpec) -> impl Iterator<Item = Call<'a>> + 'a {
        let named = spec.networking.outbound.iter().map(|outbound| Call {
            address: outbound.local_address(),
            port: outbound.port,
            tags: Cow::Borrowed(&outbound.tags),
            elsewhere: false,
        });
        let own = spec.networking.address;
        let known = self.addresses.iter().filter(move |known| {
            spec.networking.capture.is_some()
                // What the workload sends to itself is no call of others.
                && known.address != own
                && known.address.is_ipv6() == own.is_ipv6()
                && (known.meshed || self.named.serves(&known.service, known.service_port))
        });
        let captured = spec.networking.capture.map(|_| self.named.iter());
        let by_name = captured.into_iter().flatten().flat_map(move |(service, named)| {
            let call = move |port: &u16| {
                let port_tag = (tag::PORT.to_owned(), port.to_string());
                let tags = Tags::from([(tag::SERVICE.to_owned(), service.clone()), port_tag]);
                Call {
                    address: named.address.like(own),
                    port: *port,
                    tags: Cow::Owned(tags),
                    elsewhere: false,
                }
            };
            named.ports.iter().map(call)
        });
        named.chain(by_name).chain(known.map(|known| {
            let port = (tag::PORT.to_owned(), known.service_port.to_string());
            let instance = known.instance.as_ref().map(|name| (tag::INSTANCE.to_owned(), name.clone()));
            let service = (tag::SERVICE.to_owned(), known.service.clone());
            let tags = Cow::Owned([service, port].into_iter().chain(instance).collect());
            let elsewhere = !self.named.serves(&known.service, known.service_port);
            Call { address: known.address, port: known.port, tags, elsewhere }
        }))
    }
}

/// An address that a workload calls, and what is meant by it.
pub(crate) struct Call<'a> {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) tags: Cow<'a, Tags>,
    /// It is of another mesh: refused.
    pub(crate) elsewhere: bool,
}

impl Call<'_> {
    /// Empty if there is none.
    pub(crate) fn service(&self) -> &str {
        self.tags.get(tag::SERVICE).map_or("", String::as_str)
    }
}

fn place(outbound: &Outbound) -> (IpAddr, u16) {
    (outbound.address, outbound.port)
}

/// Of the outbound that is made of a call, if no other is at its place.
fn position(outbounds: &[Arc<Outbound>], call: &Call<'_>) -> Option<usize> {
    let of_call = (call.address, call.port);
    let first = outbounds.partition_point(|outbound| place(outbound) < of_call);
    let is_there =
        |position: usize| outbounds.get(position).is_some_and(|outbound| place(outbound) == of_call);
    (is_there(first) && !is_there(first + 1)).then_some(first)
}
