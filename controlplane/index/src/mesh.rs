//! The state of one mesh in this zone, and what follows from it for each proxy.

mod elsewhere;
pub(crate) mod follow;
mod observed;
mod offering;
pub(crate) mod passing;
pub(crate) mod progress;
mod publish;
mod trust;
mod users;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;
use ursa_crds::{DataplaneSpec, Kind, MeshZoneSpec, Object, ObjectKey, Spec};
use ursa_model::{EndpointState, ProxyId, ProxyModel};
use ursa_policy::{Instance, MeshView};

use crate::SnapshotReceiver;
use crate::presence::Presence;
use crate::presences::Presences;
use crate::shift::Shift;
use crate::snapshot::{Names, ProxyView};
use crate::subscriber::Subscriber;
use passing::PassedOn;
use progress::InForce;
use trust::Trust;
use users::Users;

/// What meshes share: where the ingresses of the other zones are reached.
pub(crate) type Ingresses = BTreeMap<String, Vec<(IpAddr, u16)>>;

/// What has changed since proxies were looked at last.
#[derive(Debug, Default)]
struct Pending {
    /// What all depends on: everything is worked out anew.
    all: bool,
    dataplanes: BTreeSet<String>,
    policies: BTreeSet<ObjectKey>,
    /// Those who have come to listen.
    subscribers: BTreeSet<String>,
    /// It is time for routes that were on their way.
    shift: bool,
}

#[derive(Debug, Default)]
pub(crate) struct MeshState {
    /// As it was worked out last, with every route that is wanted and those that proxies follow.
    view: Option<MeshView>,
    shift: Shift,
    passed_on: PassedOn,
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    presence: Presences,
    subscribers: HashMap<String, Subscriber>,
    users: Users,
    /// Of services, for workloads with addresses of IPv4 (`true`) and of IPv6.
    names: BTreeMap<bool, Arc<Names>>,
    pending: Pending,
    /// The index's number when it was last known of all proxies what changes mean for them.
    considered: u64,
    /// What the zone says of itself has changed, and nothing for its proxies.
    pub(crate) offer_dirty: bool,
    offer_not_before: Option<Instant>,
    /// Roots, and who signs.
    trust: Trust,
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
    pub(crate) fn apply(
        &mut self,
        zone: &str,
        key: &ObjectKey,
        object: Option<Arc<Object>>,
        presence: Presence,
    ) {
        match key.kind {
            Kind::Dataplane => {
                self.observed.insert(key.name.clone());
                self.pending.dataplanes.insert(key.name.clone());
                if object.is_some() {
                    self.presence.change(&key.name, Some(presence), |_| {});
                } else {
                    self.presence.remove(&key.name);
                }
            }
            Kind::TrafficPermission | Kind::TrafficRoute => {
                self.pending.policies.insert(key.clone());
            }
            // What this zone says of itself: what is gone is said again, and what is left of a mesh that is gone is withdrawn.
            Kind::MeshZone if key.name == zone => {
                self.offer_dirty |= object.is_none();
                self.pending.all |=
                    object.is_some() && !self.objects.contains_key(&ObjectKey::mesh(&key.mesh));
            }
            // What zones say of their proxies.
            Kind::MeshZoneInsight => {}
            _ => self.pending.all = true,
        }
        match object {
            Some(object) => self.objects.insert(key.clone(), object),
            None => self.objects.remove(key),
        };
    }

    /// What all depends on has changed.
    pub(crate) fn work_out_anew(&mut self) {
        self.pending.all = true;
    }

    /// Whether proxies are yet to be looked at.
    pub(crate) fn is_dirty(&self) -> bool {
        let Pending { all, dataplanes, policies, subscribers, shift } = &self.pending;
        *all || *shift || !dataplanes.is_empty() || !policies.is_empty() || !subscribers.is_empty()
    }

    /// An agent connected, maybe before its dataplane is known here.
    pub(crate) fn connected(&mut self, proxy: &str, now: Instant) {
        self.presence.change(proxy, Some(Presence::new(now)), Presence::connected);
        self.pending.dataplanes.insert(proxy.to_owned());
    }

    /// Changes the presence of a proxy, unless its dataplane is gone.
    pub(crate) fn change_presence(&mut self, proxy: &str, change: impl FnOnce(&mut Presence)) {
        if self.presence.change(proxy, None, change) {
            self.pending.dataplanes.insert(proxy.to_owned());
            self.observed.insert(proxy.to_owned());
        }
    }

    /// Whether nothing is left of the mesh.
    pub(crate) fn is_over(&self) -> bool {
        !self.is_dirty()
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
        let shift = self.shift.deadline().filter(|_| !self.is_dirty());
        let progress = self.progress_not_before.filter(|_| self.progress_dirty);
        let offer = self.offer_not_before.filter(|_| self.offer_dirty);
        self.presence.deadline().into_iter().chain(progress).chain(offer).chain(shift).chain(replaced).min()
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        for proxy in self.presence.expire(now) {
            self.observed.insert(proxy.clone());
            self.pending.dataplanes.insert(proxy);
        }
        self.offer_dirty |= self.replaced.values().any(|until| *until <= now);
        self.pending.shift |= self.shift.deadline().is_some_and(|at| at <= now);
    }

    pub(crate) fn subscribe(&mut self, proxy: &str) -> SnapshotReceiver {
        if !self.subscribers.contains_key(proxy) {
            self.pending.subscribers.insert(proxy.to_owned());
        }
        self.subscribers.entry(proxy.to_owned()).or_insert_with(Subscriber::new).receiver()
    }

    /// What a proxy is to do, and why, as it was worked out last.
    pub(crate) fn inspect(&self, proxy: &ProxyId, zone: &str) -> Option<ProxyView> {
        let view = self.view.as_ref()?;
        let policies = view.policies(&proxy.name)?;
        let config = view.proxy(&proxy.name).unwrap_or_else(|| ProxyModel::nothing(proxy.clone(), zone));
        let endpoints =
            config.destinations.iter().map(|destination| view.endpoints(&destination.id)).collect();
        Some(ProxyView { config, endpoints, policies })
    }

    /// Its objects of a kind, ordered by key.
    fn of(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        let nothing = String::new;
        let first = ObjectKey { kind, mesh: nothing(), namespace: nothing(), name: nothing() };
        self.objects.range(first..).take_while(move |(key, _)| key.kind == kind).map(|(_, object)| object)
    }

    /// What the other zones offer in this mesh, ordered by zone.
    fn other_zones(&self, own: &str) -> Vec<(&String, &MeshZoneSpec)> {
        let all = self.of(Kind::MeshZone).filter_map(|object| match &object.spec {
            Spec::MeshZone(spec) => Some((&object.meta.name, spec)),
            _ => None,
        });
        all.filter(|(zone, _)| *zone != own).collect()
    }

    /// A dataplane with what is observed of it.
    fn instance(&self, dataplane: &Arc<Object>) -> Instance {
        let dataplane = dataplane.clone();
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
    }
}

#[cfg(test)]
mod tests;
