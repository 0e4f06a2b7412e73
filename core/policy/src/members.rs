//! The workloads of the own zone, found by what policies select them by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ursa_crds::tag;

use crate::workload::Workload;

/// Names of workloads, each kept once.
type NamesBy = BTreeMap<String, BTreeSet<Arc<str>>>;

/// Dataplanes of the own zone as the mesh takes them; those that are not in the mesh are found by name only.
#[derive(Debug, Default)]
pub(crate) struct Members {
    all: BTreeMap<String, Workload>,
    /// By each service that they may be taken for, as callers or called.
    by_service: NamesBy,
    /// By each service that they name to call it.
    by_called: NamesBy,
    /// Whose traffic is captured: they may call everything.
    captured: BTreeSet<String>,
}

impl Members {
    pub(crate) fn get(&self, name: &str) -> Option<&Workload> {
        self.all.get(name)
    }

    /// Sets one (`None`: there is none); what was there before.
    pub(crate) fn set(&mut self, name: &str, workload: Option<Workload>) -> Option<Workload> {
        let before = self.all.remove(name);
        if let Some(before) = before.as_ref().filter(|before| before.exclusion.is_none()) {
            remove(&mut self.by_service, services(before), name);
            remove(&mut self.by_called, called(before), name);
            self.captured.remove(name);
        }
        if let Some(workload) = workload {
            if workload.exclusion.is_none() {
                let shared: Arc<str> = name.into();
                insert(&mut self.by_service, services(&workload), &shared);
                insert(&mut self.by_called, called(&workload), &shared);
                if workload.spec().networking.capture.is_some() {
                    self.captured.insert(name.to_owned());
                }
            }
            self.all.insert(name.to_owned(), workload);
        }
        before
    }

    /// Those in the mesh, ordered by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Workload> {
        self.all.values().filter(|workload| workload.exclusion.is_none())
    }

    /// Those in the mesh that may be taken for one of these services; `None`: all.
    pub(crate) fn of(&self, services: Option<&BTreeSet<&str>>) -> Vec<&str> {
        match services {
            None => self.iter().map(Workload::name).collect(),
            Some(services) => {
                found(&self.by_service, services).collect::<BTreeSet<_>>().into_iter().collect()
            }
        }
    }

    /// Those in the mesh that may call one of these services; `None`: all.
    pub(crate) fn calling(&self, services: Option<&BTreeSet<&str>>) -> Vec<&str> {
        match services {
            None => self.iter().map(Workload::name).collect(),
            Some(services) => {
                let captured = self.captured.iter().map(String::as_str);
                let all: BTreeSet<&str> = found(&self.by_called, services).chain(captured).collect();
                all.into_iter().collect()
            }
        }
    }

    /// Those whose traffic is captured.
    pub(crate) fn captured(&self) -> impl Iterator<Item = &String> {
        self.captured.iter()
    }
}

fn services(workload: &Workload) -> BTreeSet<&String> {
    let spec = workload.spec();
    let inbounds = spec.networking.inbound.iter().map(|inbound| &inbound.tags);
    inbounds.chain(spec.pod.iter().map(|pod| &pod.tags)).filter_map(|tags| tags.get(tag::SERVICE)).collect()
}

fn called(workload: &Workload) -> BTreeSet<&String> {
    let outbounds = &workload.spec().networking.outbound;
    outbounds.iter().filter_map(|outbound| outbound.tags.get(tag::SERVICE)).collect()
}

fn found<'a>(names: &'a NamesBy, services: &BTreeSet<&str>) -> impl Iterator<Item = &'a str> {
    services.iter().filter_map(|service| names.get(*service)).flatten().map(AsRef::as_ref)
}

fn insert(names: &mut NamesBy, services: BTreeSet<&String>, name: &Arc<str>) {
    for service in services {
        names.entry(service.clone()).or_default().insert(name.clone());
    }
}

fn remove(names: &mut NamesBy, services: BTreeSet<&String>, name: &str) {
    for service in services {
        if let Some(of) = names.get_mut(service) {
            of.remove(name);
            if of.is_empty() {
                names.remove(service);
            }
        }
    }
}
