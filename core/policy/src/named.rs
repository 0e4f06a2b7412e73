//! The services that somebody serves, as they are called by their names.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::Ipv4Addr;

use ursa_crds::{Tags, tag};

use crate::names::{VirtualAddress, first_address, virtual_addresses};
use crate::view::MeshView;

/// A service as it is called by its name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) address: VirtualAddress,
    pub(crate) ports: BTreeSet<u16>,
    /// The tag of the port of each that serves it; `None`: one that does not say it, which stands for all.
    served: BTreeSet<Option<String>>,
}

/// Each service that somebody serves.
#[derive(Debug, Default)]
pub(crate) struct NamedServices {
    services: BTreeMap<String, Named>,
    taken: HashSet<Ipv4Addr>,
    /// Whether two services would have the same address: then which gets it depends on all of them.
    collide: bool,
}

impl NamedServices {
    fn new(mesh: &str, services: BTreeMap<String, BTreeSet<Option<String>>>) -> Self {
        let addresses = virtual_addresses(mesh, services.keys().map(String::as_str));
        let collide = addresses.iter().any(|(service, address)| *address != first_address(mesh, service));
        let named =
            |((service, served), address)| (service, Named { address, ports: ports(&served), served });
        let taken = addresses.values().map(|address| address.v4).collect();
        Self {
            services: services.into_iter().zip(addresses.into_values()).map(named).collect(),
            taken,
            collide,
        }
    }

    /// All of them, ordered by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Named)> {
        self.services.iter()
    }

    /// Whether anybody serves a service at a port.
    pub(crate) fn serves(&self, service: &str, port: u16) -> bool {
        self.services.get(service).is_some_and(|named| {
            named.served.contains(&None) || named.served.contains(&Some(port.to_string()))
        })
    }
}

fn ports(served: &BTreeSet<Option<String>>) -> BTreeSet<u16> {
    served.iter().flatten().filter_map(|port| port.parse().ok()).collect()
}

impl MeshView {
    /// Names every service that somebody serves.
    pub(crate) fn name_services(&self) -> NamedServices {
        let own = self.local.iter().map(|inbound| &inbound.tags);
        let others =
            self.reachable_remotes().flat_map(|remote| &remote.services).map(|service| &service.tags);
        let mut all: BTreeMap<String, BTreeSet<Option<String>>> = BTreeMap::new();
        for tags in own.chain(others) {
            let Some(service) = tags.get(tag::SERVICE) else { continue };
            let port = tags.get(tag::PORT).cloned();
            if let Some(served) = all.get_mut(service) {
                served.insert(port);
            } else {
                all.insert(service.clone(), BTreeSet::from([port]));
            }
        }
        NamedServices::new(&self.input.name, all)
    }

    /// The same after a change of one service; whether anything is called otherwise now.
    pub(crate) fn rename_service(&mut self, service: &str) -> bool {
        let port = |tags: &Tags| tags.get(tag::PORT).cloned();
        let others = self.reachable_remotes().flat_map(|remote| &remote.services).map(|other| &other.tags);
        let others = others.filter(|tags| tags.get(tag::SERVICE).is_some_and(|name| name == service));
        let own = self.local.of(service).map(|inbound| &inbound.tags);
        let served: BTreeSet<Option<String>> = own.chain(others).map(port).collect();
        if let Some(named) = self.named.services.get_mut(service)
            && !served.is_empty()
        {
            if named.served == served {
                return false;
            }
            named.ports = ports(&served);
            named.served = served;
            return true;
        }
        let address = first_address(&self.input.name, service);
        if self.named.collide || (!served.is_empty() && self.named.taken.contains(&address.v4)) {
            self.named = self.name_services();
        } else if served.is_empty() {
            let Some(gone) = self.named.services.remove(service) else { return false };
            self.named.taken.remove(&gone.address.v4);
        } else {
            let named = Named { address, ports: ports(&served), served };
            self.named.taken.insert(address.v4);
            self.named.services.insert(service.to_owned(), named);
        }
        true
    }
}
