//! Which dataplane of the zone has an address, of whatever mesh. Pure.
//!
//! Invariant: of an address that several dataplanes share nothing is said.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ursa_crds::UnauthenticatedPeer;
use ursa_model::ProxyId;

/// Dataplanes by address.
#[derive(Debug, Default)]
pub struct DataplaneAddresses {
    dataplanes: HashMap<IpAddr, BTreeSet<ProxyId>>,
    of: HashMap<ProxyId, IpAddr>,
}

impl DataplaneAddresses {
    /// A dataplane has this address from now on (`None`: it is gone).
    pub fn set(&mut self, dataplane: &ProxyId, address: Option<IpAddr>) {
        let address = address.map(|address| address.to_canonical());
        let before = match address {
            Some(address) => self.of.insert(dataplane.clone(), address),
            None => self.of.remove(dataplane),
        };
        if let Some(before) = before.filter(|before| Some(*before) != address)
            && let Some(others) = self.dataplanes.get_mut(&before)
        {
            others.remove(dataplane);
            if others.is_empty() {
                self.dataplanes.remove(&before);
            }
        }
        if let Some(address) = address {
            self.dataplanes.entry(address).or_default().insert(dataplane.clone());
        }
    }

    /// The one dataplane at an address, if there is one.
    fn dataplane(&self, address: IpAddr) -> Option<&ProxyId> {
        let dataplanes = self.dataplanes.get(&address)?;
        dataplanes.first().filter(|_| dataplanes.len() == 1)
    }

    /// The same peers with the dataplanes that have their addresses now.
    pub fn named(&self, peers: &[UnauthenticatedPeer]) -> Vec<UnauthenticatedPeer> {
        let name = |peer: &UnauthenticatedPeer| UnauthenticatedPeer {
            dataplane: peer.address.and_then(|address| self.dataplane(address)).map(ToString::to_string),
            ..peer.clone()
        };
        peers.iter().map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_its_one_dataplane_as_long_as_it_has_it() {
        let (web, db) = (ProxyId::new("default", "web-1"), ProxyId::new("other", "db-1"));
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut addresses = DataplaneAddresses::default();
        addresses.set(&web, Some(at("::ffff:10.0.0.1")));
        assert_eq!(addresses.dataplane(at("10.0.0.1")), Some(&web));
        addresses.set(&db, Some(at("10.0.0.1")));
        assert_eq!(addresses.dataplane(at("10.0.0.1")), None, "two have it");
        addresses.set(&web, Some(at("10.0.0.2")));
        assert_eq!(addresses.dataplane(at("10.0.0.1")), Some(&db));
        assert_eq!(addresses.dataplane(at("10.0.0.2")), Some(&web));
        addresses.set(&web, Some(at("10.0.0.2")));
        addresses.set(&db, None);
        addresses.set(&db, None);
        assert_eq!(addresses.dataplane(at("10.0.0.1")), None);
        assert_eq!(addresses.dataplane(at("10.0.0.2")), Some(&web));
        addresses.set(&web, None);
        assert!(addresses.dataplanes.is_empty() && addresses.of.is_empty());
    }
}
