//! Who serves and calls what.

use serde_json::{Value, json};

/// The port of a dataplane's one inbound.
pub const PORT: u16 = 8080;
/// The mesh that a control plane has from the start.
pub const MESH: &str = "default";
/// The service whose instances and routes change.
pub const SERVICE: &str = "service-0";
/// Each service is called at a port of its own, counted from here.
const FIRST_CALL: usize = 10_000;
/// Services that each dataplane calls, unless it calls all.
const CALLS: usize = 5;

/// How dataplanes hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// A service a dataplane; each calls five.
    Sparse,
    /// Ten dataplanes serve each service; each calls five.
    Ten,
    /// A service a dataplane; each calls all.
    Dense,
}

impl Topology {
    /// How many services so many dataplanes serve.
    pub fn services(self, dataplanes: usize) -> usize {
        match self {
            Self::Sparse | Self::Dense => dataplanes.max(1),
            Self::Ten => (dataplanes / 10).max(1),
        }
    }

    /// What the dataplane of this number calls, by the numbers of services.
    fn calls(self, number: usize, services: usize) -> Vec<usize> {
        let mut calls: Vec<usize> = match self {
            Self::Dense => (0..services).collect(),
            Self::Sparse | Self::Ten => {
                (0..CALLS).map(|call| (number * 7 + call * 3 + 1) % services).collect()
            }
        };
        calls.sort_unstable();
        calls.dedup();
        calls
    }
}

/// What a dataplane, or the proxy of a zone ingress, is.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Its mesh; empty for a zone ingress.
    pub mesh: String,
    /// The service that it serves.
    pub serves: String,
    /// The services that it calls, by number.
    calls: Vec<usize>,
    address: String,
}

impl Plan {
    /// So many dataplanes of a zone (counted from 0), spread over these meshes.
    pub fn all(zone: (&str, u8), meshes: &[&str], topology: Topology, dataplanes: usize) -> Vec<Self> {
        let (name, place) = zone;
        let plan = |number: usize| {
            let (mesh, within) = (meshes[number % meshes.len()], number / meshes.len());
            let services = topology.services(dataplanes / meshes.len());
            Self {
                name: format!("{name}-{number}"),
                mesh: mesh.to_owned(),
                serves: service(within % services),
                calls: topology.calls(within, services),
                address: format!(
                    "10.{}.{}.{}",
                    usize::from(place) << 4 | number >> 16 & 15,
                    number >> 8 & 255,
                    number & 255
                ),
            }
        };
        (0..dataplanes).map(plan).collect()
    }

    /// The ingress of a zone.
    pub fn ingress(place: u8) -> Self {
        let address = format!("10.{}.255.1", u16::from(place) << 4 | 15);
        Self {
            name: "ingress".into(),
            mesh: String::new(),
            serves: String::new(),
            calls: Vec::new(),
            address,
        }
    }

    /// A dataplane of the mesh `default` that calls [`SERVICE`] and that nobody calls.
    pub fn idle(name: &str, place: u8) -> Self {
        let address = format!("10.{}.255.2", u16::from(place) << 4 | 15);
        Self { name: name.into(), mesh: MESH.into(), serves: "idle".into(), calls: vec![0], address }
    }

    /// Whether it is a zone ingress.
    pub fn is_ingress(&self) -> bool {
        self.mesh.is_empty()
    }

    /// Whether it calls the service of this name.
    pub fn calls(&self, service: &str) -> bool {
        let number = service.strip_prefix("service-").and_then(|number| number.parse().ok());
        number.is_some_and(|number| self.calls.binary_search(&number).is_ok())
    }

    /// As its agent registers it.
    pub fn resource(&self) -> Value {
        let (kind, spec) = if self.is_ingress() {
            ("ZoneIngress", json!({"networking": {"address": self.address, "port": 10_001}}))
        } else {
            let tags = json!({"ursamesh.io/service": self.serves});
            let inbound = json!({"port": PORT, "servicePort": 8081, "tags": tags});
            let outbound = |number: &usize| json!({"port": FIRST_CALL + number, "tags": {"ursamesh.io/service": service(*number)}});
            let outbound: Vec<Value> = self.calls.iter().map(outbound).collect();
            let networking = json!({"address": self.address, "inbound": [inbound], "outbound": outbound});
            ("Dataplane", json!({"mesh": self.mesh, "networking": networking}))
        };
        json!({
            "apiVersion": "ursamesh.io/v1alpha1",
            "kind": kind,
            "metadata": {"name": self.name},
            "spec": spec,
        })
    }

    /// Listeners of its first whole configuration.
    pub fn listeners(&self) -> usize {
        1 + self.calls.len()
    }
}

fn service(number: usize) -> String {
    format!("service-{number}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_topology_has_its_services_and_its_calls() {
        let callers = |topology, dataplanes| {
            let all = Plan::all(("z", 1), &[MESH], topology, dataplanes);
            let served: BTreeSet<&String> = all.iter().map(|plan| &plan.serves).collect();
            (served.len(), all.iter().filter(|plan| plan.calls(SERVICE)).count())
        };
        assert_eq!(callers(Topology::Sparse, 100), (100, 5));
        assert_eq!(callers(Topology::Ten, 100), (10, 50));
        assert_eq!(callers(Topology::Dense, 100), (100, 100));
    }

    #[test]
    fn meshes_share_names_of_services_and_no_address() {
        let all = Plan::all(("z", 1), &["a", "b"], Topology::Sparse, 20);
        assert_eq!(all.iter().filter(|plan| plan.serves == SERVICE).count(), 2);
        let addresses: BTreeSet<&String> = all.iter().map(|plan| &plan.address).collect();
        assert_eq!(addresses.len(), 20);
    }
}
