//! What the demo consists of, as data: zones, what runs in each, and where it listens.
//!
//! Each zone has loopback addresses of its own, so that it looks like separate hosts: `127.Z.0.N`, where Z is the
//! zone and N the host in it. Invariant: no two listeners of a topology share address and port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Ports, the same on each host.
pub mod port {
    /// Agents, gRPC.
    pub const AGENTS: u16 = 5678;
    /// Health and metrics of the control plane.
    pub const DIAGNOSTICS: u16 = 5680;
    /// REST API, plain HTTP.
    pub const API_HTTP: u16 = 5681;
    /// REST API, HTTPS.
    pub const API_HTTPS: u16 = 5682;
    /// Zones, gRPC; at global only.
    pub const SYNC: u16 = 5685;
    /// The zone's ingress, for other zones.
    pub const INGRESS: u16 = 10001;
    /// The application, for browsers.
    pub const APP: u16 = 5000;
    /// The application's proxy, for the mesh.
    pub const APP_INBOUND: u16 = 5001;
    /// The application's proxy, towards Redis.
    pub const APP_TO_REDIS: u16 = 26379;
    /// Redis itself.
    pub const REDIS: u16 = 16379;
    /// Redis' proxy, for the mesh.
    pub const REDIS_INBOUND: u16 = 6379;
}

/// A whole demo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// The global control plane, at which users apply resources.
    pub global: ControlPlane,
    /// The zones, in the order in which they start.
    pub zones: Vec<Zone>,
}

/// Where a control plane runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlPlane {
    /// `global`, or the zone's name.
    pub place: String,
    /// Its host.
    pub host: Ipv4Addr,
}

/// A zone: its control plane and workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The zone's name.
    pub name: String,
    /// The second part of its addresses.
    pub octet: u8,
}

/// A Redis behind a proxy of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// The name of its dataplane.
    pub name: String,
    /// What it holds under the key `zone`, which the application shows: the zone's name, with more for a second one.
    pub zone: String,
    /// Its tag `version`.
    pub version: &'static str,
    /// Its host.
    pub host: Ipv4Addr,
}

impl Topology {
    /// The talk's: a global control plane at `127.(base).1.1`, and the zones aws, east and west, each at
    /// `127.(base + N).0.x`; a base is a multiple of 10, at most 240, so that demos run side by side.
    pub fn talk(base: u8) -> Self {
        let zone = |(name, number): (&str, u8)| Zone { name: name.into(), octet: base + number };
        let host = Ipv4Addr::new(127, base, 1, 1);
        Self {
            global: ControlPlane { place: "global".into(), host },
            zones: [("aws", 1), ("east", 2), ("west", 3)].map(zone).into(),
        }
    }

    /// Every address at which something of the demo will listen, with what it is.
    pub fn listeners(&self) -> Vec<(SocketAddr, String)> {
        let mut listeners = self.global.listeners("global control plane");
        listeners.push((self.global.at(port::SYNC), "global control plane".into()));
        for zone in &self.zones {
            let name = &zone.name;
            listeners.extend(zone.control_plane().listeners(&format!("control plane of zone {name}")));
            listeners.push((zone.control_plane().at(port::AGENTS), format!("control plane of zone {name}")));
            let (first, second) = (zone.redis(), zone.second_redis());
            for (address, what) in [
                (zone.ingress(), "ingress"),
                (zone.app(), "demo-app"),
                (zone.app_inbound(), "inbound of demo-app"),
                (zone.app_to_redis(), "outbound of demo-app"),
                (first.server(), "redis"),
                (first.inbound(), "inbound of redis"),
                (second.server(), "second redis"),
                (second.inbound(), "inbound of the second redis"),
            ] {
                listeners.push((address, format!("{what} in zone {name}")));
            }
        }
        listeners
    }
}

impl ControlPlane {
    /// Its address at this port.
    pub fn at(&self, port: u16) -> SocketAddr {
        at(self.host, port)
    }

    /// Its REST API.
    pub fn api(&self) -> String {
        format!("http://{}", self.at(port::API_HTTP))
    }

    fn listeners(&self, what: &str) -> Vec<(SocketAddr, String)> {
        [port::DIAGNOSTICS, port::API_HTTP, port::API_HTTPS]
            .map(|port| (self.at(port), what.to_owned()))
            .into()
    }
}

impl Redis {
    /// Redis itself.
    pub fn server(&self) -> SocketAddr {
        at(self.host, port::REDIS)
    }

    /// Where its proxy takes traffic of the mesh.
    pub fn inbound(&self) -> SocketAddr {
        at(self.host, port::REDIS_INBOUND)
    }
}

fn at(host: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(host), port)
}

impl Zone {
    fn host(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.octet, 0, number)
    }

    /// The zone's control plane.
    pub fn control_plane(&self) -> ControlPlane {
        ControlPlane { place: self.name.clone(), host: self.host(1) }
    }

    /// Where the zone's ingress takes traffic of other zones.
    pub fn ingress(&self) -> SocketAddr {
        at(self.host(2), port::INGRESS)
    }

    /// The application itself.
    pub fn app(&self) -> SocketAddr {
        at(self.host(3), port::APP)
    }

    /// Where the application's proxy takes traffic of the mesh.
    pub fn app_inbound(&self) -> SocketAddr {
        at(self.host(3), port::APP_INBOUND)
    }

    /// Where the application's proxy takes the application's calls to Redis.
    pub fn app_to_redis(&self) -> SocketAddr {
        at(self.host(3), port::APP_TO_REDIS)
    }

    /// The zone's Redis.
    pub fn redis(&self) -> Redis {
        let zone = self.name.clone();
        Redis { name: format!("redis-{zone}"), zone, version: "v1", host: self.host(4) }
    }

    /// The zone's Redis of the next version, which starts only when somebody wants it.
    pub fn second_redis(&self) -> Redis {
        let zone = format!("{}-v2", self.name);
        Redis { name: format!("redis-{zone}"), zone, version: "v2", host: self.host(5) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_listeners_share_an_address_not_even_of_two_demos() {
        let listeners = [0, 10, 240].map(|base| Topology::talk(base).listeners()).concat();
        let addresses: BTreeSet<SocketAddr> = listeners.iter().map(|(address, _)| *address).collect();
        assert_eq!(addresses.len(), listeners.len(), "{listeners:?}");
        assert!(addresses.iter().all(|address| address.ip().is_loopback()));
    }
}
