//! What a change of one object comes to, and which proxies it touches.
//!
//! Invariant: a view that has followed changes says the same as a new one from the same input, and of a proxy that no change
//! has touched it says what it said before.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use ursa_crds::{Object, ObjectKey, Spec};
use ursa_model::DestinationId;

use crate::inbound::{LocalInbound, local_inbounds};
use crate::input::Instance;
use crate::policies::services;
use crate::route::Routes;
use crate::view::MeshView;
use crate::workload::Workload;

/// What may be otherwise after changes, by names of workloads of the own zone where nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Those that came, went or are said to be otherwise.
    pub workloads: BTreeSet<String>,
    /// Those whose proxies may have to call otherwise, whatever they call.
    pub callers: BTreeSet<String>,
    /// Those whose calls of `rerouted` may have to go elsewhere.
    pub callers_of_rerouted: BTreeSet<String>,
    /// Services.
    pub rerouted: BTreeSet<String>,
    /// Those whose proxies may have to let others in.
    pub called: BTreeSet<String>,
    /// Services whose instances are elsewhere, or in another state.
    pub services: BTreeSet<String>,
    /// Destinations of which who calls them has to know something else.
    pub destinations: BTreeSet<DestinationId>,
    /// What is called by name, which all know whose traffic is captured.
    pub names: bool,
    /// What there is for ingresses to pass on.
    pub passable: bool,
    /// Which services there are, how many instances of them, and who they are, as other zones know it.
    pub offer: bool,
}

impl MeshView {
    /// A dataplane of the own zone is so from now on (`None`: it is gone).
    pub fn set_instance(&mut self, name: &str, instance: Option<Instance>, touched: &mut Touched) {
        let identities = self.identities.len();
        let Replaced { is_another, inbounds: old, identity_is_new } = self.replace(name, instance);
        if is_another {
            touched.workloads.insert(name.to_owned());
            touched.offer = true;
        }
        let new: Vec<LocalInbound> = self.inbounds_of(name).cloned().collect();
        let of = |inbounds: &[LocalInbound], service: &str| -> Vec<LocalInbound> {
            inbounds.iter().filter(|inbound| inbound.service() == service).cloned().collect()
        };
        let all: BTreeSet<&str> = old.iter().chain(&new).map(LocalInbound::service).collect();
        for service in all {
            let (old, new) = (of(&old, service), of(&new, service));
            if old == new {
                continue;
            }
            touched.services.insert(service.to_owned());
            touched.offer = true;
            self.offered.forget(service);
            let (other, other_kinds) = self.differ_in_kind(service, name, &old, &new);
            if other {
                touched.destinations.extend(self.forget_facts(service, other_kinds));
                touched.passable |= other_kinds || self.routes.name_instances();
                touched.names |= other_kinds && self.rename_service(service);
            }
        }
        // Who came and who went may be as many.
        if identity_is_new || self.identities.len() != identities {
            self.known = OnceLock::new();
            touched.called.extend(self.memory.take_dependent_on_known());
        }
    }

    /// A `TrafficPermission` of the mesh is so from now on (`None`: it is gone); what was before.
    pub fn set_permission(
        &mut self,
        key: &ObjectKey,
        permission: Option<Arc<Object>>,
        touched: &mut Touched,
    ) -> Option<Arc<Object>> {
        let before = self.permissions.set(key, permission.clone());
        for permission in before.iter().chain(&permission) {
            touched.called.extend(self.reached(permission).into_iter().map(str::to_owned));
        }
        before
    }

    /// A `TrafficRoute` of the mesh is so from now on (`None`: it is gone); what was before. While routes are held
    /// ([`Self::hold`]) no proxy follows it.
    pub fn set_route(
        &mut self,
        key: &ObjectKey,
        route: Option<Arc<Object>>,
        touched: &mut Touched,
    ) -> Option<Arc<Object>> {
        let before = self.routes.set(key, route.clone());
        if self.held.is_none() {
            for route in before.iter().chain(&route) {
                self.touch_callers_by(route, touched);
            }
        }
        touched.passable = true;
        touched.offer = true;
        before
    }

    /// Every `TrafficRoute`, ordered by key, whether proxies follow it or not.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.routes.all()
    }

    /// Every `TrafficRoute` that proxies follow, ordered by key.
    pub fn followed_routes(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.followed().all()
    }

    /// Every `TrafficPermission`, ordered by key.
    pub fn permissions(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.permissions.all()
    }

    /// Which routes proxies follow (`None`: those that are set). Touches all of them.
    pub fn hold(&mut self, routes: Option<&[Arc<Object>]>) {
        self.held = routes.map(Routes::new);
    }

    /// Whether proxies follow other routes than those that are set.
    pub fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// A route decides for those that it reaches and that may call what it is for.
    fn touch_callers_by(&self, route: &Object, touched: &mut Touched) {
        let Spec::TrafficRoute(spec) = &route.spec else { return };
        let called = services(&spec.destinations);
        let callers = self.members.calling(called.as_ref()).into_iter();
        let callers = callers.filter(|name| self.is_reached(route, name)).map(str::to_owned);
        match &called {
            None => touched.callers.extend(callers),
            Some(called) => {
                touched.callers_of_rerouted.extend(callers);
                touched.rerouted.extend(called.iter().map(|service| (*service).to_owned()));
            }
        }
    }

    /// The inbounds of a workload of the own zone that is in the mesh.
    fn inbounds_of(&self, name: &str) -> impl Iterator<Item = &LocalInbound> {
        let workload = self.members.get(name);
        let services: BTreeSet<&str> = workload.into_iter().flat_map(Workload::services).collect();
        services.into_iter().flat_map(move |service| self.local.of_one(service, name))
    }

    /// Puts an instance into the place of another, without what follows from it for others.
    pub(crate) fn replace(&mut self, name: &str, instance: Option<Instance>) -> Replaced {
        let known = self.members.get(name);
        // What is only in another state is worked out once.
        let is_same = match (known, &instance) {
            (Some(known), Some(Instance { dataplane, .. })) => {
                Arc::ptr_eq(&known.source, dataplane) || known.source == *dataplane
            }
            (None, None) => true,
            _ => false,
        };
        let services: BTreeSet<String> =
            known.into_iter().flat_map(Workload::services).map(str::to_owned).collect();
        let inbounds = services.iter().flat_map(|service| self.local.remove(service, name)).collect();
        let mut identity_is_new = false;
        if !is_same {
            let workload = instance.as_ref().map(|instance| Workload::new(&self.input, &instance.dataplane));
            let identity = |workload: &Workload| workload.is_member().then(|| workload.known_as());
            let new = workload.as_ref().and_then(identity);
            let old = self.members.set(name, workload);
            if let Some(new) = new {
                let count = self.identities.entry(new).or_default();
                identity_is_new = *count == 0;
                *count += 1;
            }
            if let Some(old) = old.as_ref().and_then(identity)
                && let Some(count) = self.identities.get_mut(&old)
            {
                *count -= 1;
                if *count == 0 {
                    self.identities.remove(&old);
                }
            }
        }
        if let (Some(instance), Some(workload)) = (&instance, self.members.get(name))
            && workload.is_member()
        {
            self.local.insert(name, local_inbounds(instance, workload, &self.input.zone));
        }
        Replaced { is_another: !is_same, inbounds, identity_is_new }
    }

    /// Whether instances came or went with the change of a workload's inbounds of a service, and whether any of a kind that no
    /// other workload has: then something else is served, or by others.
    fn differ_in_kind(
        &self,
        service: &str,
        name: &str,
        old: &[LocalInbound],
        new: &[LocalInbound],
    ) -> (bool, bool) {
        let without = |a: &'_ LocalInbound, b: &[LocalInbound]| !b.iter().any(|b| b.is_like(a));
        let gone = old.iter().filter(|inbound| without(inbound, new));
        let come = new.iter().filter(|inbound| without(inbound, old));
        let mut changed = gone.chain(come).peekable();
        let elsewhere =
            |kind: &LocalInbound| self.local.of_others(service, name).any(|other| other.is_like(kind));
        (changed.peek().is_some(), changed.any(|kind| !elsewhere(kind)))
    }
}

/// What was there before.
pub(crate) struct Replaced {
    /// It is another workload now, or was none before; not only in another state.
    is_another: bool,
    inbounds: Vec<LocalInbound>,
    /// Nobody had the identity before.
    identity_is_new: bool,
}
