//! The state of one mesh in this zone, and what follows from it for each proxy.

mod elsewhere;
mod observed;
pub(crate) mod progress;
mod trust;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;
use ursa_crds::{
    AvailableService, DataplaneSpec, Kind, MeshSpec, MeshZoneSpec, Meta, Object, ObjectKey, Spec, ZoneBackend,
};
use ursa_envoy::{Interner, Resource, endpoint_resource, translate};
use ursa_model::{DestinationId, EndpointState, IngressRoute, ProxyId, ProxyModel, TrustBundle, TrustDomain};
use ursa_policy::{Instance, MeshInput, MeshView, RemoteService, RemoteZone, ServiceAddress};

use crate::SnapshotReceiver;
use crate::authority::{Authority, AuthorityError};
use crate::insight::Insights;
use crate::offer::Offer;
use crate::presence::Presence;
use crate::shift::Shift;
use crate::snapshot::{IdentityGrant, Names, ProxyView, Snapshot};
use crate::subscriber::Subscriber;
use progress::InForce;
use trust::{Trust, trust, trusted_roots};

/// What meshes share: where the ingresses of the other zones are reached.
pub(crate) type Ingresses = BTreeMap<String, Vec<(IpAddr, u16)>>;

#[derive(Debug, Default)]
pub(crate) struct MeshState {
    /// As it was worked out last, with every route that is wanted.
    view: Option<MeshView>,
    /// The same with the routes that proxies still follow, while those that are wanted are on their way.
    held: Option<MeshView>,
    shift: Shift,
    /// What the ingresses pass on.
    ingress_routes: Vec<IngressRoute>,
    /// Server names of that, and of what they would pass on if there were instances.
    server_names: BTreeSet<String>,
    /// Those of them that the ingresses know for certain.
    passable: BTreeSet<String>,
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    presence: BTreeMap<String, Presence>,
    subscribers: HashMap<String, Subscriber>,
    pub(crate) dirty: bool,
    /// What the zone says of itself has changed, and nothing for its proxies.
    pub(crate) offer_dirty: bool,
    /// Names of the backends whose roots are trusted, in order.
    backends: Vec<String>,
    /// Backends that do not sign, and until when what they signed may be in use.
    replaced: BTreeMap<String, Instant>,
    /// Dataplanes of which something was observed that is not reported yet.
    pub(crate) observed: BTreeSet<String>,
    /// What snapshots follow: states of the mesh and its policies, by UID.
    in_force: BTreeMap<String, InForce>,
    /// How far proxies follow it may have changed.
    pub(crate) progress_dirty: bool,
    progress_not_before: Option<Instant>,
}

impl MeshState {
    /// Takes a change of an object of the mesh, or of the mesh itself. `presence`: of a proxy that is not known yet.
    pub(crate) fn apply(&mut self, key: &ObjectKey, object: Option<Arc<Object>>, presence: Presence) {
        self.dirty = true;
        if key.kind == Kind::Dataplane {
            self.observed.insert(key.name.clone());
            if object.is_some() {
                self.presence.entry(key.name.clone()).or_insert(presence);
            } else {
                self.presence.remove(&key.name);
            }
        }
        match object {
            Some(object) => self.objects.insert(key.clone(), object),
            None => self.objects.remove(key),
        };
    }

    /// An agent connected, maybe before its dataplane is known here.
    pub(crate) fn connected(&mut self, proxy: &str, now: Instant) {
        self.dirty = true;
        self.presence.entry(proxy.to_owned()).or_insert_with(|| Presence::new(now)).connected();
    }

    /// Changes the presence of a proxy, unless its dataplane is gone.
    pub(crate) fn change_presence(&mut self, proxy: &str, change: impl FnOnce(&mut Presence)) {
        if let Some(presence) = self.presence.get_mut(proxy) {
            self.dirty = true;
            self.observed.insert(proxy.to_owned());
            change(presence);
        }
    }

    /// Whether nothing is left of the mesh.
    pub(crate) fn is_over(&self) -> bool {
        !self.dirty
            && !self.offer_dirty
            && !self.progress_dirty
            && self.objects.is_empty()
            && self.presence.is_empty()
            && self.subscribers.is_empty()
            && self.observed.is_empty()
    }

    /// When [`Self::expire`] will next change something.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        let replaced = self.replaced.values().copied().filter(|until| *until > now);
        // What is to be worked out anyway waits for nothing else: while that fails, its deadline would stay in the past.
        let shift = self.shift.deadline().filter(|_| !self.dirty);
        let progress = self.progress_not_before.filter(|_| self.progress_dirty);
        self.presence
            .values()
            .filter_map(Presence::deadline)
            .chain(progress)
            .chain(shift)
            .chain(replaced)
            .min()
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        for (proxy, presence) in &mut self.presence {
            if presence.expire(now) {
                self.dirty = true;
                self.observed.insert(proxy.clone());
            }
        }
        self.offer_dirty |= self.replaced.values().any(|until| *until <= now);
        self.dirty |= self.shift.deadline().is_some_and(|at| at <= now);
    }

    pub(crate) fn subscribe(&mut self, proxy: &str) -> SnapshotReceiver {
        self.dirty = true;
        self.subscribers.entry(proxy.to_owned()).or_insert_with(Subscriber::new).receiver()
    }

    /// Works out every subscribed proxy's snapshot anew and publishes those that changed.
    pub(crate) async fn rebuild(
        &mut self,
        name: &str,
        authority: &Arc<Authority>,
        ingresses: &Ingresses,
        addresses: &Arc<[ServiceAddress]>,
        interner: &mut Interner,
        sequence: u64,
    ) -> Result<(), AuthorityError> {
        let object = self.objects.get(&ObjectKey::mesh(name)).cloned();
        let mesh = object.as_ref().and_then(|object| match &object.spec {
            Spec::Mesh(spec) => Some(spec.clone()),
            _ => None,
        });
        self.progress_dirty = true;
        self.subscribers.retain(|_, subscriber| subscriber.is_wanted());
        let Some(spec) = mesh else {
            // Policies without their mesh say nothing; what proxies have stays until the mesh is known again.
            (self.view, self.held) = (None, None);
            self.in_force.clear();
            self.shift = Shift::default();
            self.ingress_routes.clear();
            self.server_names.clear();
            (self.dirty, self.offer_dirty) = (false, true);
            return Ok(());
        };
        let Trust { bundle: mut trust, signer, backends } = trust(name, &spec, authority).await?;
        self.backends = backends;
        self.note_replaced(&spec, Instant::now());
        let zone = authority.zone();
        let others = self.other_zones(zone);
        if signer.is_some() {
            trust.extend(others.iter().filter_map(|(zone, offer)| trusted_roots(zone, offer)));
        }
        let remotes = others.into_iter().map(|(zone, offer)| remote_zone(zone, offer, ingresses)).collect();
        let input =
            MeshInput { addresses: addresses.clone(), ..self.input(name, spec, trust, remotes, zone) };
        let (permissions, wanted) = (input.permissions.clone(), input.routes.clone());
        let view = MeshView::new(input);
        let now = Instant::now();
        let routes = self.shift.follow(&wanted, self.is_known_elsewhere(&view, zone), now);
        let resources: Vec<Arc<Object>> =
            object.into_iter().chain(permissions).chain(routes.iter().cloned()).collect();
        let causes = self.note_in_force(&view, &resources, sequence);
        self.held = (routes != wanted).then(|| view.with_routes(routes));
        let subsets = self.shift.pass_on(view.named_subsets(zone), now);
        self.server_names = subsets.iter().map(DestinationId::sni).collect();
        self.ingress_routes = view.ingress_routes(subsets);
        self.server_names.extend(self.ingress_routes.iter().map(|route| route.destination.sni()));
        self.view = Some(view);
        (self.dirty, self.offer_dirty) = (false, true);
        self.publish(signer.as_ref(), interner, sequence, &causes);
        Ok(())
    }

    /// Whether the ingresses of all other zones know what the routes may send there.
    fn is_known_elsewhere(&self, view: &MeshView, own: &str) -> bool {
        self.other_zones(own).into_iter().filter(|(zone, _)| view.is_reachable(zone)).all(|(zone, offer)| {
            view.named_subsets(zone).iter().all(|subset| offer.subsets.contains(&subset.sni()))
        })
    }

    /// Publishes the snapshots that changed.
    fn publish(
        &mut self,
        signer: Option<&IdentityGrant>,
        interner: &mut Interner,
        sequence: u64,
        causes: &BTreeSet<String>,
    ) {
        let Some(view) = self.held.as_ref().or(self.view.as_ref()) else { return };
        let mut endpoints: HashMap<DestinationId, Arc<Resource>> = HashMap::new();
        let mut names: HashMap<bool, Arc<Names>> = HashMap::new();
        for (proxy, subscriber) in &mut self.subscribers {
            if let Some(exclusion) = view.exclusion(proxy) {
                subscriber.exclude(sequence, exclusion);
                continue;
            }
            let Some(model) = view.proxy(proxy) else { continue };
            let identity = signer.and_then(|signer| {
                Some(IdentityGrant { spiffe_id: view.identity(proxy)?, ..signer.clone() })
            });
            let resources = match &subscriber.model {
                Some((last, resources)) if *last == model => resources.clone(),
                _ => translate(&model, interner),
            };
            let mut all = resources.clone();
            for destination in &model.destinations {
                let resource = endpoints.entry(destination.id.clone()).or_insert_with(|| {
                    endpoint_resource(&destination.id.name(), &view.endpoints(&destination.id), interner)
                });
                all.insert(resource.key.clone(), resource.clone());
            }
            subscriber.model = Some((model, resources));
            let names = view
                .captured(proxy)
                .map(|own| names.entry(own.is_ipv4()).or_insert_with(|| Arc::new(view.names(own))).clone());
            let snapshot = Snapshot {
                sequence,
                resources: Arc::new(all),
                names,
                server_names: Arc::default(),
                identity,
                exclusion: None,
            };
            subscriber.publish(snapshot, causes);
        }
    }

    /// What the zone's ingresses pass on, with the server names.
    pub(crate) fn for_ingress(&self) -> Option<(&MeshView, &[IngressRoute], &BTreeSet<String>)> {
        Some((self.view.as_ref()?, &self.ingress_routes, &self.server_names))
    }

    /// What a proxy is to do, and why, as it was worked out last.
    pub(crate) fn inspect(&self, proxy: &ProxyId, zone: &str) -> Option<ProxyView> {
        let view = self.held.as_ref().or(self.view.as_ref())?;
        let policies = view.policies(&proxy.name)?;
        let config = view.proxy(&proxy.name).unwrap_or_else(|| ProxyModel::nothing(proxy.clone(), zone));
        let endpoints =
            config.destinations.iter().map(|destination| view.endpoints(&destination.id)).collect();
        Some(ProxyView { config, endpoints, policies })
    }

    /// What the other zones offer in this mesh, ordered by zone.
    fn other_zones(&self, own: &str) -> Vec<(&String, &MeshZoneSpec)> {
        let all = self.objects.values().filter_map(|object| match &object.spec {
            Spec::MeshZone(spec) => Some((&object.meta.name, spec)),
            _ => None,
        });
        all.filter(|(zone, _)| *zone != own).collect()
    }

    /// Whether certificates of a backend that does not sign any more may still be in use.
    fn signed_lately(&self, backend: &str) -> bool {
        self.replaced.get(backend).is_some_and(|until| *until > Instant::now())
    }

    /// Takes note of which backends have ceased to sign. After a start none is known to have ceased before.
    fn note_replaced(&mut self, spec: &MeshSpec, now: Instant) {
        let enabled = spec.enabled_backend().map(|backend| backend.name.as_str());
        let backends = spec.mtls.iter().flat_map(|mtls| &mtls.backends);
        let replaced = backends.filter(|backend| Some(backend.name.as_str()) != enabled);
        let replaced = replaced.map(|backend| {
            let lifetime = backend.dp_cert.rotation.expiration.get();
            let until = self.replaced.get(&backend.name).copied().unwrap_or_else(|| now + lifetime);
            (backend.name.clone(), until)
        });
        self.replaced = replaced.collect();
    }

    /// What this zone offers in this mesh.
    /// `acknowledged`: the server names that each of its ingresses knows. Of what one of them does not know yet nothing is
    /// promised; what was known before stays, though an ingress that has just come has yet to say so.
    pub(crate) fn offer(
        &mut self,
        name: &str,
        zone: &str,
        insights: &Insights,
        acknowledged: &[Arc<BTreeSet<String>>],
    ) -> Offer {
        self.offer_dirty = false;
        let Some(view) = &self.view else { return Offer::withdrawn(name, zone) };
        let roots = view.trust().get(&TrustDomain::new(zone, name).to_string()).cloned().unwrap_or_default();
        let named: BTreeSet<String> = view.named_subsets(zone).iter().map(DestinationId::sni).collect();
        let known = |name: &String| {
            self.passable.contains(name) || acknowledged.iter().all(|known| known.contains(name))
        };
        let passable: BTreeSet<String> =
            self.server_names.iter().filter(|name| known(name)).cloned().collect();
        self.offer_dirty = passable != self.server_names;
        let services = view.available_services().into_iter().map(|service| {
            // Without mutual TLS nothing crosses.
            let is_passable =
                self.ingress_routes.is_empty() || passable.contains(&view.whole(&service.tags).sni());
            AvailableService {
                instances: if is_passable { service.instances } else { 0 },
                tags: service.tags,
                protocol: tag_value(service.protocol).to_owned(),
                identity_services: service.identity_services,
            }
        });
        let services: Vec<AvailableService> = services.collect();
        let held = insights.certificates(name, Timestamp::now());
        let elsewhere = self.unknown_pods(name, insights);
        let backend = |name: &String| {
            // What nobody who is heard of knows may rely on any backend that signed lately.
            let may_be = if self.signed_lately(name) { elsewhere } else { 0 };
            ZoneBackend { name: name.clone(), proxies: held.get(name).copied().unwrap_or_default() + may_be }
        };
        let spec = MeshZoneSpec {
            mesh: name.to_owned(),
            roots,
            backends: self.backends.iter().map(backend).collect(),
            subsets: named.intersection(&passable).cloned().collect(),
            services,
            identities: Some(view.identities()),
        };
        self.passable = passable;
        let meta = Meta { name: zone.to_owned(), ..Meta::default() };
        Offer::Offered(Box::new(Object { meta, spec: Spec::MeshZone(spec) }))
    }

    fn input(
        &self,
        name: &str,
        spec: MeshSpec,
        trust: TrustBundle,
        remotes: Vec<RemoteZone>,
        zone: &str,
    ) -> MeshInput {
        let of = |kind| self.objects.values().filter(move |object| object.kind() == kind).cloned();
        let instances = of(Kind::Dataplane)
            .map(|dataplane| {
                if let Spec::Dataplane(DataplaneSpec { pod: Some(pod), .. }) = &dataplane.spec {
                    // The kubelet knows, whichever control plane the agent talks to.
                    return Instance {
                        unready_ports: pod.unready.clone(),
                        state: EndpointState::Healthy,
                        out_of_service: false,
                        dataplane,
                    };
                }
                let presence = self.presence.get(&dataplane.meta.name);
                Instance {
                    unready_ports: presence.map(|p| p.unready_ports().clone()).unwrap_or_default(),
                    state: presence.map(Presence::state).unwrap_or_default(),
                    out_of_service: presence.is_some_and(Presence::is_out),
                    dataplane,
                }
            })
            .collect();
        MeshInput {
            name: name.to_owned(),
            zone: zone.to_owned(),
            spec,
            trust,
            instances,
            addresses: Arc::default(),
            remotes,
            permissions: of(Kind::TrafficPermission).collect(),
            routes: of(Kind::TrafficRoute).collect(),
        }
    }
}

fn remote_zone(zone: &str, offer: &MeshZoneSpec, ingresses: &Ingresses) -> RemoteZone {
    let service = |service: &AvailableService| RemoteService {
        tags: service.tags.clone(),
        instances: service.instances,
        protocol: ursa_crds::Protocol::parse(&service.protocol)
            .map(ursa_policy::protocol)
            .unwrap_or_default(),
        identity_services: service.identity_services.clone(),
    };
    RemoteZone {
        zone: zone.to_owned(),
        ingresses: ingresses.get(zone).cloned().unwrap_or_default(),
        services: offer.services.iter().map(service).collect(),
        identities: offer.identities.clone(),
    }
}

fn tag_value(protocol: ursa_model::Protocol) -> &'static str {
    match protocol {
        ursa_model::Protocol::Tcp => "tcp",
        ursa_model::Protocol::Http => "http",
        ursa_model::Protocol::Http2 => "http2",
    }
}

#[cfg(test)]
mod tests;
