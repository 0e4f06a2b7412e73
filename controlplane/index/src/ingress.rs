//! The zone's ingresses: one serves all meshes, so what it gets follows from all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ursa_crds::{Object, ObjectKey, Spec, ZoneIngressSpec};
use ursa_envoy::{Interner, translate};
use ursa_model::{ProxyId, ProxyModel};

use crate::SnapshotReceiver;
use crate::cause::Causes;
use crate::insight::Insights;
use crate::mesh::Ingresses;
use crate::mesh::passing::ForIngress;
use crate::snapshot::Snapshot;
use crate::subscriber::Subscriber;

/// Every zone ingress that is known, and the proxies of those of this zone.
#[derive(Debug, Default)]
pub(crate) struct IngressState {
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    subscribers: HashMap<String, Subscriber>,
}

impl IngressState {
    pub(crate) fn apply(&mut self, key: &ObjectKey, object: Option<Arc<Object>>) {
        match object {
            Some(object) => self.objects.insert(key.clone(), object),
            None => self.objects.remove(key),
        };
    }

    /// Whether there is an ingress of this name.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.specs().any(|(known, _)| known == name)
    }

    fn specs(&self) -> impl Iterator<Item = (&str, &ZoneIngressSpec)> {
        self.objects.values().filter_map(|object| match &object.spec {
            Spec::ZoneIngress(spec) => Some((object.meta.name.as_str(), spec)),
            _ => None,
        })
    }

    /// Where the ingresses of each zone are reached.
    pub(crate) fn addresses(&self) -> Ingresses {
        let mut addresses: Ingresses = BTreeMap::new();
        for (_, spec) in self.specs() {
            let Some(reached) = spec.reached_at() else { continue };
            addresses.entry(spec.zone.clone()).or_default().push((reached.address, reached.port));
        }
        addresses
    }

    /// What the ingresses of this zone that are connected, to whichever replica, have acknowledged: server names, for
    /// each ingress.
    pub(crate) fn acknowledged(&self, zone: &str, insights: &Insights) -> Vec<Arc<BTreeSet<String>>> {
        let own: BTreeSet<&str> =
            self.specs().filter(|(_, spec)| spec.zone == zone).map(|(name, _)| name).collect();
        let known = insights.ingresses().into_iter().filter(|(id, _)| own.contains(id.resource()));
        known.filter(|(_, insight)| insight.connected).map(|(_, insight)| insight.server_names).collect()
    }

    pub(crate) fn subscribe(&mut self, proxy: &str) -> SnapshotReceiver {
        self.subscribers.entry(proxy.to_owned()).or_insert_with(Subscriber::new).receiver()
    }

    /// Whether somebody listens to what ingresses are to do.
    pub(crate) fn is_wanted(&mut self) -> bool {
        self.subscribers.retain(|_, subscriber| subscriber.is_wanted());
        !self.subscribers.is_empty()
    }

    /// Publishes what each ingress of this zone passes on.
    pub(crate) fn publish<'a>(
        &mut self,
        zone: &str,
        meshes: impl Iterator<Item = ForIngress<'a>>,
        interner: &mut Interner,
        sequence: u64,
    ) {
        let mut routes = Vec::new();
        let mut endpoints = Vec::new();
        let mut server_names = BTreeSet::new();
        for mesh in meshes {
            server_names.extend(mesh.server_names.iter().cloned());
            routes.extend(mesh.routes.iter().cloned());
            endpoints.extend(mesh.endpoints);
        }
        let listeners: HashMap<String, (IpAddr, u16)> = self
            .specs()
            .filter(|(_, spec)| spec.zone == zone)
            .filter_map(|(name, spec)| Some((name.to_owned(), spec.networking?)))
            .map(|(name, networking)| (name, (networking.address, networking.port)))
            .collect();
        let server_names = Arc::new(server_names);
        for (name, subscriber) in &mut self.subscribers {
            let id = ProxyId::new("", name);
            let Some(listener) = listeners.get(id.resource()) else { continue };
            let model = ProxyModel {
                ingress_routes: routes.clone(),
                ingress_listener: Some(*listener),
                ..ProxyModel::nothing(id, zone)
            };
            let mut resources = if subscriber.model.as_ref() == Some(&model) {
                subscriber.resources()
            } else {
                let resources = translate(&model, interner);
                subscriber.model = Some(model);
                resources
            };
            for resource in &endpoints {
                resources.insert(resource.clone());
            }
            let snapshot = Snapshot {
                sequence,
                resources: Arc::new(resources),
                names: None,
                server_names: server_names.clone(),
                identity: None,
                exclusion: None,
            };
            subscriber.publish(snapshot, &Causes::default());
        }
    }
}
