//! The index's one writer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use ursa_crds::{Kind, Object, ObjectKey, Spec};
use ursa_envoy::Interner;
use ursa_model::ProxyId;
use ursa_policy::ServiceAddress;
use ursa_store::Store;

use crate::addresses::DataplaneAddresses;
use crate::authority::Authority;
use crate::hearing::UNHEARD_AFTER;
use crate::ingress::IngressState;
use crate::insight::Insights;
use crate::mesh::MeshState;
use crate::mesh::follow::Surroundings;
use crate::offer::{self, Offer};
use crate::presence::Presence;
use crate::work::Counted;
use crate::{ProxyView, SnapshotReceiver};

/// What agents' streams tell the index.
#[derive(Debug)]
pub(crate) enum Event {
    Connected(ProxyId),
    Disconnected(ProxyId),
    Unready {
        proxy: ProxyId,
        ports: BTreeSet<u16>,
    },
    Observed(ProxyId),
    /// Whom it let in without an identity of the mesh; nothing is worked out from that.
    Counted(ProxyId),
    /// Another replica has said something of it.
    Heard(ProxyId),
    /// The stream of another replica has ended.
    Unheard {
        replica: String,
        stream: u64,
        since: Timestamp,
    },
    IngressSettled,
    Acknowledged {
        proxy: ProxyId,
        sequence: u64,
    },
    Addresses(Arc<[ServiceAddress]>),
    Draining {
        proxy: ProxyId,
        done: oneshot::Sender<()>,
    },
    Subscribe {
        proxy: ProxyId,
        reply: oneshot::Sender<SnapshotReceiver>,
    },
    Inspect {
        proxy: ProxyId,
        reply: oneshot::Sender<Option<ProxyView>>,
    },
}

/// How soon a mesh is worked out again after its authority failed.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) struct Writer {
    store: Store,
    authority: Arc<Authority>,
    events: mpsc::UnboundedReceiver<Event>,
    insights: Insights,
    meshes: BTreeMap<String, MeshState>,
    ingress: IngressState,
    /// Where what this zone offers goes.
    offers: mpsc::UnboundedSender<Offer>,
    /// Where captured workloads call services, of whatever mesh.
    addresses: Arc<[ServiceAddress]>,
    dataplanes: DataplaneAddresses,
    interner: Interner,
    sequence: u64,
    /// Told once the snapshots that follow from the events so far are published.
    drained: Vec<oneshot::Sender<()>>,
    retry_at: Option<Instant>,
    ingress_dirty: bool,
    /// The server names that each of the zone's ingresses knows.
    acknowledged: Vec<Arc<BTreeSet<String>>>,
    work: Counted,
    /// Replicas whose stream ended, and when they are given up.
    leaving: Vec<Leaving>,
}

struct Leaving {
    at: Instant,
    replica: String,
    stream: u64,
    since: Timestamp,
}

impl Writer {
    pub(crate) fn new(
        store: Store,
        authority: Arc<Authority>,
        events: mpsc::UnboundedReceiver<Event>,
        insights: Insights,
        leads: watch::Receiver<bool>,
        work: Counted,
    ) -> Self {
        Self {
            offers: offer::start(store.clone(), leads),
            ingress: IngressState::default(),
            store,
            authority,
            events,
            insights,
            meshes: BTreeMap::new(),
            addresses: Arc::default(),
            dataplanes: DataplaneAddresses::default(),
            interner: Interner::default(),
            sequence: 0,
            drained: Vec::new(),
            retry_at: None,
            ingress_dirty: true,
            acknowledged: Vec::new(),
            work,
            leaving: Vec::new(),
        }
    }

    pub(crate) async fn run(mut self) {
        let (objects, mut changes) = self.store.watch();
        let now = Instant::now();
        for object in objects {
            if let Spec::DataplaneInsight(spec) = &object.spec {
                self.insights.remember(spec);
            }
            self.change(&object.key(), Some(object), Presence::unseen(now));
        }
        // All of it is known: what has changed is yet to be seen.
        self.meshes.values_mut().for_each(|mesh| mesh.observed.clear());
        self.forget_gone();
        loop {
            self.publish().await;
            let deadline = self.deadline();
            tokio::select! {
                changes = changes.next() => {
                    let Some(changes) = changes else { return };
                    for change in changes {
                        self.change(&change.key, change.object, Presence::new(Instant::now()));
                    }
                }
                event = self.events.recv() => {
                    let Some(event) = event else { return };
                    self.event(event);
                }
                () = self.authority.changed() => self.work_out_anew(),
                () = sleep_until(deadline) => self.expire(),
            }
            // What has come in the meantime is worked out together with it.
            while let Ok(event) = self.events.try_recv() {
                self.event(event);
            }
        }
    }

    /// What all meshes depend on has changed.
    fn work_out_anew(&mut self) {
        self.meshes.values_mut().for_each(MeshState::work_out_anew);
    }

    /// What is reported of dataplanes that went while this control plane was away.
    fn forget_gone(&mut self) {
        for object in self.store.list(Kind::DataplaneInsight) {
            let Spec::DataplaneInsight(spec) = &object.spec else { continue };
            let dataplane = ObjectKey::in_mesh(Kind::Dataplane, &spec.mesh, &spec.dataplane);
            if self.store.get(&dataplane).is_none() {
                let _ = self.offers.send(Offer::Withdrawn(object.key()));
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let leaving = self.leaving.iter().map(|leaving| leaving.at);
        self.meshes.values().filter_map(MeshState::deadline).chain(self.retry_at).chain(leaving).min()
    }

    fn change(&mut self, key: &ObjectKey, object: Option<Arc<Object>>, presence: Presence) {
        // Of what users have in their own namespaces, only policies mean something there.
        let is_policy = matches!(key.kind, Kind::TrafficPermission | Kind::TrafficRoute);
        if !key.namespace.is_empty() && !is_policy {
            return;
        }
        match key.kind {
            Kind::Zone | Kind::Secret | Kind::ZoneInsight | Kind::DataplaneInsight => return,
            Kind::ZoneIngress => {
                self.ingress.apply(key, object);
                self.ingress_dirty = true;
                self.work_out_anew();
                return;
            }
            _ => {}
        }
        let mesh = if key.kind == Kind::Mesh { &key.name } else { &key.mesh };
        if key.kind == Kind::Dataplane {
            let proxy = ProxyId::new(&key.mesh, &key.name);
            let address = match object.as_ref().map(|object| &object.spec) {
                Some(Spec::Dataplane(spec)) => Some(spec.networking.address),
                _ => None,
            };
            self.dataplanes.set(&proxy, address);
            if object.is_none() {
                self.insights.remove(&proxy);
            }
        }
        let state = self.meshes.entry(mesh.clone()).or_default();
        state.apply(self.authority.zone(), key, object, presence);
    }

    fn event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            // An ingress has no endpoints of its own: what becomes of its agent changes nothing for others.
            Event::Connected(proxy) if proxy.mesh.is_empty() => {}
            Event::Disconnected(proxy) if proxy.mesh.is_empty() => {
                // A pod that is gone does not come back under its name.
                let connected = self.insights.get(&proxy).is_some_and(|insight| insight.connected);
                if proxy.pod().is_some() && !connected {
                    self.insights.remove(&proxy);
                }
            }
            Event::Acknowledged { proxy, .. }
            | Event::Unready { proxy, .. }
            | Event::Observed(proxy)
            | Event::Counted(proxy)
            | Event::Heard(proxy)
                if proxy.mesh.is_empty() => {}
            // What waits for it goes out when this is published.
            Event::IngressSettled => {}
            Event::Addresses(addresses) => {
                if self.addresses != addresses {
                    self.addresses = addresses;
                    self.work_out_anew();
                }
            }
            Event::Connected(proxy) => self.mesh(&proxy).connected(&proxy.name, now),
            Event::Acknowledged { proxy, sequence } => {
                self.mesh(&proxy).acknowledged(&proxy.name, sequence);
            }
            Event::Disconnected(proxy) => {
                self.mesh(&proxy).change_presence(&proxy.name, |p| p.disconnected(now));
            }
            Event::Unready { proxy, ports } => {
                self.mesh(&proxy).change_presence(&proxy.name, |p| p.unready(ports));
            }
            Event::Observed(proxy) => self.mesh(&proxy).observe(&proxy.name),
            Event::Counted(proxy) => self.mesh(&proxy).counted(&proxy.name),
            Event::Heard(proxy) if proxy.is_mesh_itself() => self.mesh(&proxy).progress_dirty = true,
            Event::Heard(proxy) => self.heard(&proxy, now),
            Event::Unheard { replica, stream, since } => {
                self.leaving.push(Leaving { at: now + UNHEARD_AFTER, replica, stream, since });
            }
            Event::Draining { proxy, done } => {
                self.mesh(&proxy).change_presence(&proxy.name, Presence::drain);
                self.drained.push(done);
            }
            Event::Inspect { proxy, reply } => {
                let mesh = self.meshes.get(&proxy.mesh);
                let view = mesh.and_then(|mesh| mesh.inspect(&proxy, self.authority.zone()));
                let _ = reply.send(view);
            }
            Event::Subscribe { proxy, reply } if proxy.mesh.is_empty() => {
                let _ = reply.send(self.ingress.subscribe(&proxy.name));
                self.ingress_dirty = true;
            }
            Event::Subscribe { proxy, reply } => {
                let _ = reply.send(self.mesh(&proxy).subscribe(&proxy.name));
            }
        }
    }

    fn mesh(&mut self, proxy: &ProxyId) -> &mut MeshState {
        self.meshes.entry(proxy.mesh.clone()).or_default()
    }

    fn expire(&mut self) {
        let now = Instant::now();
        self.retry_at = self.retry_at.filter(|at| *at > now);
        for leaving in self.leaving.extract_if(.., |leaving| leaving.at <= now).collect::<Vec<_>>() {
            self.leave(&leaving);
        }
        for mesh in self.meshes.values_mut() {
            mesh.expire(now);
        }
    }

    /// A replica has not come back: what it knew is not known any more.
    fn leave(&mut self, Leaving { at: _, replica, stream, since }: &Leaving) {
        let exists = |proxy: &ProxyId| match self.meshes.get(&proxy.mesh) {
            // A pod that is gone does not come back under its name.
            _ if proxy.mesh.is_empty() => proxy.pod().is_none() && self.ingress.knows(&proxy.name),
            mesh => mesh.is_some_and(|mesh| mesh.knows(&proxy.mesh, &proxy.name)),
        };
        let unheard = self.insights.left(replica, *stream, *since, exists);
        if !unheard.is_empty() {
            tracing::warn!(replica, proxies = unheard.len(), "a replica is not heard of any more");
        }
        for proxy in unheard.iter().filter(|proxy| !proxy.mesh.is_empty() && !proxy.is_mesh_itself()) {
            self.heard(proxy, Instant::now());
        }
        self.meshes.values_mut().for_each(|mesh| mesh.progress_dirty = true);
    }

    fn heard(&mut self, proxy: &ProxyId, now: Instant) {
        let elsewhere = self.insights.elsewhere(proxy).unwrap_or_default();
        self.mesh(proxy).heard(&proxy.mesh, &proxy.name, &elsewhere, now);
    }

    async fn publish(&mut self) {
        let Self {
            meshes,
            authority,
            ingress,
            offers,
            addresses: calls,
            dataplanes,
            interner,
            sequence,
            drained,
            retry_at,
            ingress_dirty,
            acknowledged,
            work,
            ..
        } = self;
        let ingresses = ingress.addresses();
        let mut done_so_far = work.get();
        for (name, mesh) in meshes.iter_mut().filter(|(_, mesh)| mesh.is_dirty()) {
            *sequence += 1;
            let mut around = Surroundings {
                authority: &*authority,
                ingresses: &ingresses,
                addresses: &*calls,
                interner: &mut *interner,
                sequence: *sequence,
                work: &mut done_so_far,
            };
            match mesh.rebuild(name, &mut around).await {
                Ok(for_ingress) => *ingress_dirty |= for_ingress,
                Err(error) => {
                    tracing::error!(mesh = name, %error, "proxies keep what they have; will try again");
                    *retry_at = Some(Instant::now() + RETRY);
                }
            }
        }
        work.set(done_so_far);
        let zone = authority.zone();
        if std::mem::take(ingress_dirty) && ingress.is_wanted() {
            let mut passed_on = Vec::new();
            for mesh in meshes.values_mut() {
                passed_on.extend(mesh.for_ingress(zone, interner));
            }
            ingress.publish(zone, passed_on.into_iter(), interner, *sequence);
        }
        let now_acknowledged = ingress.acknowledged(zone, &self.insights);
        if *acknowledged != now_acknowledged {
            *acknowledged = now_acknowledged;
            meshes.values_mut().for_each(MeshState::ingresses_know_more);
        }
        for (name, mesh) in meshes.iter_mut().filter(|(_, mesh)| mesh.offer_is_due()) {
            let _ = offers.send(mesh.offer(name, zone, &self.insights, acknowledged));
        }
        for (name, mesh) in meshes.iter_mut() {
            mesh.report(name, authority.zone(), &self.insights, dataplanes, offers);
            if let Some(offer) = mesh.progress(name, authority.zone(), &self.insights) {
                let _ = offers.send(offer);
            }
        }
        meshes.retain(|_, mesh| !mesh.is_over());
        for done in drained.drain(..) {
            let _ = done.send(());
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
