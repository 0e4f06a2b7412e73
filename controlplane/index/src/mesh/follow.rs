//! Works out what changes mean for a mesh: anew where all depends on it, else only what they touch.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;
use ursa_crds::{AvailableService, Kind, MeshSpec, MeshZoneSpec, Object, ObjectKey, Spec};
use ursa_envoy::Interner;
use ursa_policy::{MeshInput, MeshView, RemoteService, RemoteZone, ServiceAddress, Touched};

use super::progress::ChangedPolicy;
use super::trust::{Trust, trust, trusted_roots};
use super::{Ingresses, MeshState, PassedOn, Pending, Users};
use crate::authority::{Authority, AuthorityError};
use crate::cause::{Causes, Changes};
use crate::shift::Shift;
use crate::subscriber::Subscriber;
use crate::work::Work;

/// What all meshes are worked out with.
pub(crate) struct Surroundings<'a> {
    pub(crate) authority: &'a Arc<Authority>,
    /// Where the other zones' ingresses are reached.
    pub(crate) ingresses: &'a Ingresses,
    /// Where captured workloads call services.
    pub(crate) addresses: &'a Arc<[ServiceAddress]>,
    pub(crate) interner: &'a mut Interner,
    /// The index's number of this.
    pub(crate) sequence: u64,
    pub(crate) work: &'a mut Work,
}

impl MeshState {
    /// Works out what has changed, and publishes what is new for proxies; whether it may be new for ingresses.
    pub(crate) async fn rebuild(
        &mut self,
        name: &str,
        around: &mut Surroundings<'_>,
    ) -> Result<bool, AuthorityError> {
        self.progress_dirty = true;
        let object = self.objects.get(&ObjectKey::mesh(name)).cloned();
        let Some(Spec::Mesh(spec)) = object.as_ref().map(|object| &object.spec) else {
            self.leave_as_it_is();
            return Ok(true);
        };
        let trust = trust(name, spec, around.authority).await.inspect_err(|_| self.pending.all = true)?;
        self.note_replaced(spec, Instant::now());
        let pending = std::mem::take(&mut self.pending);
        let zone = around.authority.zone();
        let view = self.view.take().filter(|_| !pending.all && self.trust == trust);
        self.trust = trust;
        let (view, touched, causes) = match view {
            None => {
                around.work.anew += 1;
                let mut view = MeshView::new(self.input(name, spec, around));
                self.follow_routes(&mut view, zone);
                let causes = self.note_in_force(&view, object.as_ref(), around.sequence);
                (view, None, causes)
            }
            Some(mut view) => {
                let (touched, causes) = self.follow(&mut view, &pending, object.as_ref(), around);
                (view, touched, causes)
            }
        };
        self.passed_on.touch(touched.as_ref(), pending.shift);
        if pending.shift {
            self.passed_on.refresh(&view, &mut self.shift, zone);
        }
        self.offer_dirty |= pending.shift || touched.as_ref().is_none_or(|touched| touched.offer);
        let Pending { subscribers, .. } = pending;
        let causes = Causes::new(Changes { sequence: around.sequence, uids: causes });
        self.publish(name, &view, touched.as_ref(), subscribers, &causes, around);
        self.view = Some(view);
        self.considered = around.sequence;
        Ok(touched.is_none_or(|touched| touched.passable || !touched.services.is_empty()) || pending.shift)
    }

    /// Policies without their mesh say nothing; what proxies have stays until the mesh is known again.
    fn leave_as_it_is(&mut self) {
        self.subscribers.retain(|_, subscriber| subscriber.is_wanted());
        // Whoever listens is looked at when it is.
        self.users = Users::default();
        self.subscribers.values_mut().for_each(Subscriber::leave_as_it_is);
        self.pending = Pending::default();
        self.view = None;
        self.in_force.clear();
        self.shift = Shift::default();
        self.passed_on = PassedOn::default();
        self.offer_dirty = true;
    }

    /// Follows changes of single objects; what they touch, `None`: perhaps all; and the changes that are new.
    fn follow(
        &mut self,
        view: &mut MeshView,
        pending: &Pending,
        mesh: Option<&Arc<Object>>,
        around: &Surroundings<'_>,
    ) -> (Option<Touched>, BTreeSet<String>) {
        let mut touched = Touched::default();
        for dataplane in &pending.dataplanes {
            let key = ObjectKey::in_mesh(Kind::Dataplane, view.name(), dataplane);
            let instance = self.objects.get(&key).map(|object| self.instance(object));
            view.set_instance(dataplane, instance, &mut touched);
        }
        let mut changed: Vec<ChangedPolicy> = Vec::new();
        let mut shifts = pending.shift;
        for key in &pending.policies {
            let now = self.objects.get(key).cloned();
            let before = if key.kind == Kind::TrafficRoute {
                shifts = true;
                view.set_route(key, now.clone(), &mut touched)
            } else {
                view.set_permission(key, now.clone(), &mut touched)
            };
            changed.push((before, now));
        }
        let held = view.holds();
        if shifts {
            self.follow_routes(view, around.authority.zone());
        }
        if held && !view.holds() {
            return (None, self.note_in_force(view, mesh, around.sequence));
        }
        self.note_workloads(view, &touched.workloads);
        // Routes that are held are not in force, and those that were stay so.
        let is_followed = |object: &Object| object.kind() != Kind::TrafficRoute || !view.holds();
        changed.retain(|(before, now)| before.as_ref().or(now.as_ref()).is_some_and(|o| is_followed(o)));
        (Some(touched), self.note_policies(view, mesh, &changed, around.sequence))
    }

    /// Which routes proxies follow now.
    fn follow_routes(&mut self, view: &mut MeshView, zone: &str) {
        let wanted: Vec<Arc<Object>> = view.routes().cloned().collect();
        let ready = self.is_known_elsewhere(view, zone);
        let held = self.shift.follow(&wanted, ready, Instant::now());
        if held.is_some() != view.holds() {
            view.hold(held.as_deref());
        }
    }

    /// Whether the ingresses of all other zones know what the routes may send there.
    fn is_known_elsewhere(&self, view: &MeshView, own: &str) -> bool {
        self.other_zones(own).into_iter().filter(|(zone, _)| view.is_reachable(zone)).all(|(zone, offer)| {
            view.named_subsets(zone).iter().all(|subset| offer.subsets.contains(&subset.sni()))
        })
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

    fn input(&self, name: &str, spec: &MeshSpec, around: &Surroundings<'_>) -> MeshInput {
        let zone = around.authority.zone();
        let others = self.other_zones(zone);
        let Trust { bundle, signer, backends: _ } = &self.trust;
        let mut trust = bundle.clone();
        if signer.is_some() {
            trust.extend(others.iter().filter_map(|(zone, offer)| trusted_roots(zone, offer)));
        }
        MeshInput {
            name: name.to_owned(),
            zone: zone.to_owned(),
            spec: spec.clone(),
            trust,
            instances: self.of(Kind::Dataplane).map(|dataplane| self.instance(dataplane)).collect(),
            addresses: around.addresses.clone(),
            remotes: others
                .into_iter()
                .map(|(zone, offer)| remote_zone(zone, offer, around.ingresses))
                .collect(),
            permissions: self.of(Kind::TrafficPermission).cloned().collect(),
            routes: self.of(Kind::TrafficRoute).cloned().collect(),
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
