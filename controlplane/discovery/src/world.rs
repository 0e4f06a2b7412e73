//! What follows from the facts: a dataplane a pod, and where services are called. Pure.
//!
//! Invariant: a fact that says what was known already causes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ursa_crds::{
    Capture, DataplaneSpec, Inbound, Kind, Meta, Networking, Object, ObjectKey, Pod, Spec, Tags, tag,
};
use ursa_policy::ServiceAddress;

use crate::facts::{Name, PodFacts, ServiceFacts, SliceFacts};

/// Everything that is known of the cluster.
#[derive(Debug, Default)]
pub(crate) struct World {
    pods: BTreeMap<Name, PodFacts>,
    services: BTreeMap<Name, ServiceFacts>,
    /// By their own names.
    slices: BTreeMap<Name, SliceFacts>,
    /// The same by Service.
    slices_of: HashMap<Name, BTreeSet<Name>>,
    /// Slices that a pod is in.
    slices_with: HashMap<Name, BTreeSet<Name>>,
    /// What was said of each pod.
    said: BTreeMap<Name, (ObjectKey, Object)>,
    changed_pods: BTreeSet<Name>,
    addresses_changed: bool,
}

/// What is to be said.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// `None`: it is gone.
    pub(crate) dataplanes: Vec<(ObjectKey, Option<Object>)>,
    pub(crate) addresses: Option<Arc<[ServiceAddress]>>,
}

impl World {
    pub(crate) fn pod(&mut self, name: Name, facts: Option<PodFacts>) {
        if self.pods.get(&name) == facts.as_ref() {
            return;
        }
        // Headless Services are called at their pods.
        self.addresses_changed = true;
        self.changed_pods.insert(name.clone());
        replace(&mut self.pods, name, facts);
    }

    pub(crate) fn service(&mut self, name: Name, facts: Option<ServiceFacts>) {
        let former = self.services.get(&name);
        if former == facts.as_ref() {
            return;
        }
        self.addresses_changed = true;
        for selector in [former, facts.as_ref()].into_iter().flatten().map(|facts| &facts.selector) {
            let of_namespace = self.pods.iter().filter(|(pod, _)| pod.namespace == name.namespace);
            let selected = of_namespace.filter(|(_, pod)| selects(selector, &pod.labels));
            self.changed_pods.extend(selected.map(|(pod, _)| pod.clone()));
        }
        for slice in self.slices_of.get(&name).into_iter().flatten() {
            self.changed_pods.extend(self.slices[slice].endpoints.keys().cloned());
        }
        replace(&mut self.services, name, facts);
    }

    pub(crate) fn slice(&mut self, name: Name, facts: Option<SliceFacts>) {
        if self.slices.get(&name) == facts.as_ref() {
            return;
        }
        self.addresses_changed = true;
        if let Some(former) = self.slices.get(&name) {
            take_out(&mut self.slices_of, &former.service, &name);
            for pod in former.endpoints.keys() {
                take_out(&mut self.slices_with, pod, &name);
                self.changed_pods.insert(pod.clone());
            }
        }
        if let Some(facts) = &facts {
            self.slices_of.entry(facts.service.clone()).or_default().insert(name.clone());
            for pod in facts.endpoints.keys() {
                self.slices_with.entry(pod.clone()).or_default().insert(name.clone());
                self.changed_pods.insert(pod.clone());
            }
        }
        replace(&mut self.slices, name, facts);
    }

    /// What changed since the last time.
    pub(crate) fn news(&mut self) -> News {
        let mut news = News::default();
        for name in std::mem::take(&mut self.changed_pods) {
            let now = self.pods.get(&name).map(|pod| self.dataplane(pod));
            let before = self.said.get(&name);
            if before == now.as_ref() {
                continue;
            }
            if let Some((key, _)) = before.filter(|(key, _)| now.as_ref().is_none_or(|(k, _)| k != key)) {
                news.dataplanes.push((key.clone(), None));
            }
            if let Some((key, object)) = &now {
                news.dataplanes.push((key.clone(), Some(object.clone())));
            }
            replace(&mut self.said, name, now);
        }
        if std::mem::take(&mut self.addresses_changed) {
            news.addresses = Some(self.addresses());
        }
        news
    }

    fn dataplane(&self, pod: &PodFacts) -> (ObjectKey, Object) {
        let own = |service: &str, port: &str, protocol: &str| {
            let mut tags = pod.tags.clone();
            tags.extend([
                (tag::SERVICE.to_owned(), service.to_owned()),
                (tag::NAMESPACE.to_owned(), pod.name.namespace.clone()),
                (tag::WORKLOAD.to_owned(), pod.workload.clone()),
            ]);
            if !port.is_empty() {
                tags.insert(tag::PORT.to_owned(), port.to_owned());
                tags.insert(tag::PROTOCOL.to_owned(), protocol.to_owned());
            }
            tags
        };
        // (pod's port, service, service's port) → protocol; ready if any of the Services has it so.
        let mut served: BTreeMap<(u16, String, u16), &str> = BTreeMap::new();
        let mut ready: BTreeMap<u16, bool> = BTreeMap::new();
        for slice in self.slices_with.get(&pod.name).into_iter().flatten().map(|name| &self.slices[name]) {
            let Some(service) = self.services.get(&slice.service) else { continue };
            for port in &service.ports {
                let Some(target) = slice.ports.get(&port.name) else { continue };
                served.insert((*target, slice.service.dotted(), port.port), port.protocol);
                *ready.entry(*target).or_default() |= slice.endpoints[&pod.name].ready && !pod.stopping;
            }
        }
        let inbound = served.into_iter().map(|((port, service, service_port), protocol)| Inbound {
            port,
            service_address: None,
            service_port: None,
            tags: own(&service, &service_port.to_string(), protocol),
            readiness_probe: None,
        });
        let oldest = self.oldest_service(pod);
        let workload = || Name::new(&pod.name.namespace, &pod.workload);
        let primary = oldest.cloned().unwrap_or_else(workload).dotted();
        let spec = DataplaneSpec {
            mesh: pod.mesh.clone(),
            networking: Networking {
                address: pod.address,
                capture: Some(Capture::default()),
                inbound: inbound.collect(),
                outbound: Vec::new(),
            },
            token_tags: Tags::new(),
            token_id: None,
            pod: Some(Pod {
                namespace: pod.name.namespace.clone(),
                uid: pod.uid.clone(),
                tags: own(&primary, "", ""),
                service: primary,
                wished_service: pod.wished_service.clone(),
                wished_names: self.wished_names(pod, oldest),
                unready: ready.into_iter().filter(|(_, ready)| !ready).map(|(port, _)| port).collect(),
                started: pod.started && !pod.stopping,
            }),
        };
        let name = pod.name.dotted();
        let key = ObjectKey::in_mesh(Kind::Dataplane, &pod.mesh, &name);
        let meta = Meta { name, uid: pod.uid.clone(), created: pod.created, ..Meta::default() };
        (key, Object { meta, spec: Spec::Dataplane(spec) })
    }

    /// The oldest Service that selects the pod, by which it is known: that is so before the pod has an address, so that its
    /// first certificate is not its second choice.
    fn oldest_service(&self, pod: &PodFacts) -> Option<&Name> {
        let of_namespace = self.services.range(Name::new(&pod.name.namespace, "")..);
        let of_namespace = of_namespace.take_while(|(name, _)| name.namespace == pod.name.namespace);
        let selecting = of_namespace.filter(|(_, service)| selects(&service.selector, &pod.labels));
        selecting.min_by_key(|(name, service)| (service.created, *name)).map(|(name, _)| name)
    }

    /// What the pod's Services wish to be called. Whether they are is not decided here: that depends on the mesh.
    fn wished_names(&self, pod: &PodFacts, oldest: Option<&Name>) -> BTreeMap<String, String> {
        let slices = self.slices_with.get(&pod.name).into_iter().flatten();
        let services = slices.map(|slice| &self.slices[slice].service).chain(oldest);
        services.filter_map(|name| Some((name.dotted(), self.services.get(name)?.wished.clone()?))).collect()
    }

    /// Where services are called: at their own addresses, and headless ones at their pods.
    fn addresses(&self) -> Arc<[ServiceAddress]> {
        let mut all: BTreeMap<(IpAddr, u16), ServiceAddress> = BTreeMap::new();
        for (name, service) in &self.services {
            let slices = self.slices_of.get(name).into_iter().flatten().map(|slice| &self.slices[slice]);
            let meshed =
                slices.flat_map(|slice| slice.endpoints.keys()).any(|pod| self.pods.contains_key(pod));
            for port in &service.ports {
                for address in &service.addresses {
                    let at = ServiceAddress {
                        address: *address,
                        port: port.port,
                        service: name.dotted(),
                        wished: service.wished.clone(),
                        service_port: port.port,
                        meshed,
                        instance: None,
                    };
                    all.insert((at.address, at.port), at);
                }
            }
            let slices = self.slices_of.get(name).into_iter().flatten().map(|slice| &self.slices[slice]);
            for slice in slices.filter(|_| service.headless) {
                for (pod, endpoint) in slice.endpoints.iter().filter(|(pod, _)| self.pods.contains_key(pod)) {
                    for port in &service.ports {
                        let Some(target) = slice.ports.get(&port.name) else { continue };
                        for address in &endpoint.addresses {
                            let at = ServiceAddress {
                                address: *address,
                                port: *target,
                                service: name.dotted(),
                                wished: service.wished.clone(),
                                service_port: port.port,
                                meshed: true,
                                instance: Some(pod.dotted()),
                            };
                            all.entry((at.address, at.port)).or_insert(at);
                        }
                    }
                }
            }
        }
        all.into_values().collect()
    }
}

/// An empty selector selects nothing.
fn selects(selector: &Tags, labels: &Tags) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn replace<T>(all: &mut BTreeMap<Name, T>, name: Name, value: Option<T>) {
    match value {
        Some(value) => all.insert(name, value),
        None => all.remove(&name),
    };
}

fn take_out(index: &mut HashMap<Name, BTreeSet<Name>>, of: &Name, name: &Name) {
    if let Some(names) = index.get_mut(of) {
        names.remove(name);
        if names.is_empty() {
            index.remove(of);
        }
    }
}

#[cfg(test)]
mod tests;
