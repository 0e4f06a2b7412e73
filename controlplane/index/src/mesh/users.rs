//! Who calls which destination, and where its instances were when that was looked at last.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ursa_envoy::{Interner, Resource, ResourceSet, endpoint_resource};
use ursa_model::{Destination, DestinationId, ProxyModel};
use ursa_policy::MeshView;

/// A destination that proxies call.
#[derive(Debug)]
struct Used {
    endpoints: Arc<Resource>,
    /// Their names.
    by: BTreeSet<Arc<str>>,
}

/// Destinations that subscribed proxies call.
#[derive(Debug, Default)]
pub(super) struct Users(BTreeMap<DestinationId, Used>);

/// Proxy → destinations whose endpoints are others than before.
pub(super) type Moved = BTreeMap<String, Vec<DestinationId>>;

impl Users {
    /// A proxy calls other destinations than before: where their instances are is in its resources, of no others. Both in
    /// the order of their ids.
    pub(super) fn follow(
        &mut self,
        proxy: &str,
        mut before: &[Arc<Destination>],
        mut now: &[Arc<Destination>],
        resources: &mut ResourceSet,
        view: &MeshView,
        interner: &mut Interner,
    ) {
        let mut shared_name = None;
        loop {
            let order = match (before.first(), now.first()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) if Arc::ptr_eq(a, b) => Ordering::Equal,
                (Some(a), Some(b)) => a.id.cmp(&b.id),
            };
            if order.is_lt()
                && let Some(endpoints) = self.leave(&before[0].id, proxy)
            {
                resources.remove(&endpoints.key);
            }
            if order.is_gt() {
                let name = shared_name.get_or_insert_with(|| proxy.into());
                resources.insert(self.join(&now[0].id, name, view, interner));
            }
            before = &before[usize::from(order.is_le())..];
            now = &now[usize::from(order.is_ge())..];
        }
    }

    /// Puts into a proxy's resources where instances have moved to.
    pub(super) fn put(&self, proxy: &str, moved: &Moved, resources: &mut ResourceSet) {
        for id in moved.get(proxy).into_iter().flatten() {
            if let Some(used) = self.0.get(id).filter(|used| used.by.contains(proxy)) {
                resources.insert(used.endpoints.clone());
            }
        }
    }

    /// A proxy calls a destination from now on; where its instances are.
    fn join(
        &mut self,
        id: &DestinationId,
        proxy: &Arc<str>,
        view: &MeshView,
        interner: &mut Interner,
    ) -> Arc<Resource> {
        if !self.0.contains_key(id) {
            let endpoints = endpoint_resource(&id.name(), &view.endpoints(id), interner);
            self.0.insert(id.clone(), Used { endpoints, by: BTreeSet::new() });
        }
        let used = self.0.get_mut(id).expect("it has just been put there");
        if !used.by.contains(proxy) {
            used.by.insert(proxy.clone());
        }
        used.endpoints.clone()
    }

    /// A proxy does not call a destination any more; where its instances were.
    fn leave(&mut self, id: &DestinationId, proxy: &str) -> Option<Arc<Resource>> {
        let used = self.0.get_mut(id)?;
        used.by.remove(proxy);
        let endpoints = used.endpoints.clone();
        if used.by.is_empty() {
            self.0.remove(id);
        }
        Some(endpoints)
    }

    /// A proxy that did this calls nothing any more.
    pub(super) fn forget(&mut self, proxy: &str, model: Option<&ProxyModel>) {
        for destination in model.into_iter().flat_map(|model| &model.destinations) {
            self.leave(&destination.id, proxy);
        }
    }

    /// The proxies that call one of these destinations.
    pub(super) fn of<'a>(
        &'a self,
        destinations: &'a BTreeSet<DestinationId>,
    ) -> impl Iterator<Item = &'a str> {
        destinations.iter().filter_map(|id| self.0.get(id)).flat_map(|used| &used.by).map(AsRef::as_ref)
    }

    /// Looks again where the instances of these services are; `None`: of all.
    pub(super) fn look_again(
        &mut self,
        services: Option<&BTreeSet<String>>,
        mesh: &str,
        view: &MeshView,
        interner: &mut Interner,
    ) -> Moved {
        let mut moved = Moved::new();
        let mut look = |id: &DestinationId, used: &mut Used| {
            let endpoints = endpoint_resource(&used.endpoints.key.name, &view.endpoints(id), interner);
            if endpoints.version != used.endpoints.version {
                used.endpoints = endpoints;
                for proxy in &used.by {
                    moved.entry(proxy.to_string()).or_default().push(id.clone());
                }
            }
        };
        let Some(services) = services else {
            self.0.iter_mut().for_each(|(id, used)| look(id, used));
            return moved;
        };
        for service in services {
            let first = DestinationId::whole(mesh, service);
            let of_service = self.0.range_mut(first..).take_while(|(id, _)| id.service == *service);
            of_service.for_each(|(id, used)| look(id, used));
        }
        moved
    }
}
