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
    /// The host of the global control plane; without one, the first zone's control plane is standalone.
    pub global: Option<Ipv4Addr>,
    /// The zones, in the order in which they start.
    pub zones: Vec<Zone>,
}

/// A zone: its control plane and workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The zone's name.
    pub name: String,
    /// The second part of its addresses.
    pub octet: u8,
}

impl Topology {
    /// One control plane, and one zone: `aws`. The zone's addresses are `127.(1 + base).0.N`, so that demos with
    /// different bases run side by side; a base is a multiple of 10, at most 240.
    pub fn standalone(base: u8) -> Self {
        Self { global: None, zones: vec![Zone { name: "aws".into(), octet: base + 1 }] }
    }

    /// Every address at which something of the demo will listen, with what it is.
    pub fn listeners(&self) -> Vec<(SocketAddr, String)> {
        let mut listeners = Vec::new();
        if let Some(global) = self.global {
            listeners.extend(control_plane(global, "global control plane"));
        }
        for zone in &self.zones {
            let name = &zone.name;
            listeners.extend(control_plane(zone.control_plane(), &format!("control plane of zone {name}")));
            for (address, what) in [
                (zone.app(), "demo-app"),
                (zone.app_inbound(), "inbound of demo-app"),
                (zone.app_to_redis(), "outbound of demo-app"),
                (zone.redis(), "redis"),
                (zone.redis_inbound(), "inbound of redis"),
            ] {
                listeners.push((address, format!("{what} in zone {name}")));
            }
        }
        listeners
    }
}

fn control_plane(host: Ipv4Addr, what: &str) -> Vec<(SocketAddr, String)> {
    [port::AGENTS, port::DIAGNOSTICS, port::API_HTTP, port::API_HTTPS]
        .map(|port| (at(host, port), what.to_owned()))
        .into()
}

fn at(host: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(host), port)
}

impl Zone {
    fn host(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.octet, 0, number)
    }

    /// The host of the zone's control plane.
    pub fn control_plane(&self) -> Ipv4Addr {
        self.host(1)
    }

    /// The host of the zone's ingress.
    pub fn ingress(&self) -> Ipv4Addr {
        self.host(2)
    }

    /// The REST API of the zone's control plane.
    pub fn api(&self) -> String {
        format!("http://{}", at(self.control_plane(), port::API_HTTP))
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

    /// Redis itself.
    pub fn redis(&self) -> SocketAddr {
        at(self.host(4), port::REDIS)
    }

    /// Where Redis' proxy takes traffic of the mesh.
    pub fn redis_inbound(&self) -> SocketAddr {
        at(self.host(4), port::REDIS_INBOUND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_listeners_share_an_address_not_even_of_two_demos() {
        let listeners = [Topology::standalone(0), Topology::standalone(10)].map(|t| t.listeners()).concat();
        let addresses: BTreeSet<SocketAddr> = listeners.iter().map(|(address, _)| *address).collect();
        assert_eq!(addresses.len(), listeners.len(), "{listeners:?}");
        assert!(addresses.iter().all(|address| address.ip().is_loopback()));
    }
}
