//! Tells proxies what is new for them. Only those are looked at that a change touches.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ursa_envoy::{translate, translate_after};
use ursa_policy::{MeshView, Touched};

use super::MeshState;
use super::follow::Surroundings;
use super::users::Moved;
use crate::cause::Causes;
use crate::snapshot::{IdentityGrant, Snapshot};

/// What of a proxy is to be looked at, besides where the instances are that it calls.
#[derive(Clone, Copy, Default)]
struct Part {
    /// Whom it lets in.
    inbounds: bool,
    /// Where its calls go.
    calls: bool,
}

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
                if touched.names {
                    whole.extend(view.captured_by_name().map(str::to_owned));
                }
                whole
            }
        };
        for proxy in &whole {
            self.look_at(proxy, view, &moved, causes, around);
        }
        if let Some(touched) = touched {
            let mut parts: BTreeMap<String, Part> = BTreeMap::new();
            for proxy in moved.keys() {
                parts.entry(proxy.clone()).or_default();
            }
            for proxy in &touched.called {
                parts.entry(proxy.clone()).or_default().inbounds = true;
            }
            for proxy in touched
                .callers_of_rerouted
                .iter()
                .map(String::as_str)
                .chain(self.users.of(&touched.destinations))
            {
                parts.entry(proxy.to_owned()).or_default().calls = true;
            }
            for (proxy, part) in parts.iter().filter(|(proxy, _)| !whole.contains(*proxy)) {
                self.look_at_part(proxy, (*part, touched), view, &moved, causes, around);
            }
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
        let called_before = before.as_ref().map_or(&[][..], |before| &before.destinations);
        users.follow(proxy, called_before, &model.destinations, &mut resources, view, around.interner);
        users.put(proxy, moved, &mut resources);
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

    /// A part of what one proxy is to do, and where the instances are that it calls.
    fn look_at_part(
        &mut self,
        proxy: &str,
        (part, touched): (Part, &Touched),
        view: &MeshView,
        moved: &Moved,
        causes: &Causes,
        around: &mut Surroundings<'_>,
    ) {
        let Self { subscribers, users, .. } = self;
        let Some(subscriber) = subscribers.get_mut(proxy) else { return };
        let (Some(told), Some(before)) = (subscriber.told(), &subscriber.model) else { return };
        let after = if part.calls {
            view.proxy_after(before, &touched.rerouted, &touched.destinations)
        } else {
            Some(before.clone())
        };
        let Some(mut after) = after else { return self.look_at(proxy, view, moved, causes, around) };
        around.work.looked_at += 1;
        if part.inbounds
            && let Some(inbounds) = view.proxy_inbounds(proxy)
        {
            after.inbounds = inbounds;
        }
        if after == *before && !moved.contains_key(proxy) {
            return;
        }
        let mut resources = told.resources.as_ref().clone();
        translate_after(before, &after, &mut resources, around.interner);
        let (old, new) = (&before.destinations, &after.destinations);
        users.follow(proxy, old, new, &mut resources, view, around.interner);
        users.put(proxy, moved, &mut resources);
        subscriber.model = Some(after);
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
