//! Tells proxies what is new for them. Only those are looked at that a change touches.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ursa_envoy::{translate, translate_after, translate_inbounds_after};
use ursa_model::{Destination, DestinationId, ProxyModel};
use ursa_policy::{MeshView, Touched};

use super::MeshState;
use super::follow::Surroundings;
use super::users::Moved;
use crate::snapshot::{IdentityGrant, Snapshot};
use crate::subscriber::Causes;

impl MeshState {
    /// Publishes the snapshots that changed. `touched`: what changes touch, `None`: perhaps all; `come`: who listens since.
    pub(super) fn publish(
        &mut self,
        mesh: &str,
        view: &MeshView,
        touched: Option<&Touched>,
        come: BTreeSet<String>,
        causes: &Causes,
        around: &mut Surroundings<'_>,
    ) {
        let built = around.interner.built();
        if touched.is_none_or(|touched| touched.names) {
            self.name_anew(view);
        }
        let services = touched.map(|touched| &touched.services);
        let moved = self.users.look_again(services, mesh, view, around.interner);
        let whole: BTreeSet<String> = match touched {
            None => self.subscribers.keys().cloned().collect(),
            Some(touched) => {
                let mut whole = come;
                whole.extend(touched.workloads.iter().chain(&touched.callers).cloned());
                whole.extend(self.users.of(&touched.destinations).cloned());
                if touched.names {
                    whole.extend(view.captured_by_name().map(str::to_owned));
                }
                whole
            }
        };
        for proxy in &whole {
            self.look_at(proxy, view, &moved, causes, around);
        }
        let called = touched.into_iter().flat_map(|touched| &touched.called);
        for proxy in called.filter(|proxy| !whole.contains(*proxy)) {
            self.look_at_inbounds(proxy, view, causes, around);
        }
        for (proxy, _) in moved.iter().filter(|(proxy, _)| !whole.contains(*proxy)) {
            self.move_endpoints(proxy, &moved, causes, around);
        }
        around.work.built += around.interner.built() - built;
    }

    /// All that one proxy is to do.
    fn look_at(
        &mut self,
        proxy: &str,
        view: &MeshView,
        moved: &Moved,
        causes: &Causes,
        around: &mut Surroundings<'_>,
    ) {
        let Self { subscribers, users, names, trust, .. } = self;
        let Some(subscriber) = subscribers.get_mut(proxy) else { return };
        around.work.looked_at += 1;
        let sequence = around.sequence;
        if let Some(exclusion) = view.exclusion(proxy) {
            users.forget(proxy, subscriber.model.as_ref());
            around.work.told += u64::from(subscriber.exclude(sequence, exclusion));
            return;
        }
        let Some(model) = view.proxy(proxy) else {
            // It goes on with what it has.
            users.forget(proxy, subscriber.model.take().as_ref());
            return;
        };
        around.work.models += 1;
        let identity = trust
            .signer
            .as_ref()
            .and_then(|signer| Some(IdentityGrant { spiffe_id: view.identity(proxy)?, ..signer.clone() }));
        let before = subscriber.model.take();
        let mut resources = match &before {
            Some(before) => {
                let mut resources = subscriber.resources();
                translate_after(before, &model, &mut resources, around.interner);
                resources
            }
            None => translate(&model, around.interner),
        };
        let nothing = ProxyModel::nothing(model.id.clone(), &model.zone);
        let called_before = &before.as_ref().unwrap_or(&nothing).destinations;
        let is_called = |id: &DestinationId, destinations: &[Destination]| {
            destinations.binary_search_by(|destination| destination.id.cmp(id)).is_ok()
        };
        for destination in model.destinations.iter().filter(|d| !is_called(&d.id, called_before)) {
            resources.insert(users.join(&destination.id, proxy, view, around.interner));
        }
        for destination in called_before.iter().filter(|d| !is_called(&d.id, &model.destinations)) {
            if let Some(endpoints) = users.leave(&destination.id, proxy) {
                resources.remove(&endpoints.key);
            }
        }
        for id in moved.get(proxy).into_iter().flatten() {
            if let Some(endpoints) = users.endpoints(id, proxy) {
                resources.insert(endpoints.clone());
            }
        }
        subscriber.model = Some(model);
        let names = view
            .captured(proxy)
            .map(|own| names.entry(own.is_ipv4()).or_insert_with(|| Arc::new(view.names(own))).clone());
        let snapshot = Snapshot {
            sequence,
            resources: Arc::new(resources),
            names,
            server_names: Arc::default(),
            identity,
            exclusion: None,
        };
        around.work.told += u64::from(subscriber.publish(snapshot, causes));
    }

    /// Whom one proxy lets in.
    fn look_at_inbounds(
        &mut self,
        proxy: &str,
        view: &MeshView,
        causes: &Causes,
        around: &mut Surroundings<'_>,
    ) {
        let Some(subscriber) = self.subscribers.get_mut(proxy) else { return };
        around.work.looked_at += 1;
        let (Some(told), Some(inbounds)) = (subscriber.told(), view.proxy_inbounds(proxy)) else { return };
        let Some(model) = subscriber.model.as_mut().filter(|model| model.inbounds != inbounds) else {
            return;
        };
        let captured = model.capture.is_some();
        let before = std::mem::replace(&mut model.inbounds, inbounds);
        let mut resources = told.resources.as_ref().clone();
        let captured = (captured, captured);
        translate_inbounds_after(&before, &model.inbounds, captured, &mut resources, around.interner);
        let snapshot =
            Snapshot { sequence: around.sequence, resources: Arc::new(resources), ..told.as_ref().clone() };
        around.work.told += u64::from(subscriber.publish(snapshot, causes));
    }

    /// Where instances are that one proxy calls.
    fn move_endpoints(&mut self, proxy: &str, moved: &Moved, causes: &Causes, around: &mut Surroundings<'_>) {
        let Some(subscriber) = self.subscribers.get_mut(proxy) else { return };
        around.work.looked_at += 1;
        let Some(told) = subscriber.told() else { return };
        let mut resources = told.resources.as_ref().clone();
        for id in moved.get(proxy).into_iter().flatten() {
            if let Some(endpoints) = self.users.endpoints(id, proxy) {
                resources.insert(endpoints.clone());
            }
        }
        let snapshot =
            Snapshot { sequence: around.sequence, resources: Arc::new(resources), ..told.as_ref().clone() };
        around.work.told += u64::from(subscriber.publish(snapshot, causes));
    }

    /// Names of services; what is the same as before stays the same, so that nobody has to compare it.
    fn name_anew(&mut self, view: &MeshView) {
        for (is_ipv4, known) in &mut self.names {
            let new = view.names(if *is_ipv4 {
                Ipv4Addr::UNSPECIFIED.into()
            } else {
                Ipv6Addr::UNSPECIFIED.into()
            });
            if **known != new {
                *known = Arc::new(new);
            }
        }
    }

    /// Forgets those who do not listen any more.
    pub(super) fn forget_unwanted(&mut self) {
        let Self { subscribers, users, .. } = self;
        subscribers.retain(|proxy, subscriber| {
            let wanted = subscriber.is_wanted();
            if !wanted {
                users.forget(proxy, subscriber.model.as_ref());
            }
            wanted
        });
    }
}
