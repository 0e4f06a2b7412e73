//! The names of the mesh and their addresses.
//!
//! Invariant: names are held in lower case and without the last dot; every name above one exists too, if without
//! addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ursa_model::VIRTUAL_ADDRESSES;

/// Addresses of a name, in the order in which they are answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// For type A.
    pub v4: Vec<Ipv4Addr>,
    /// For type AAAA.
    pub v6: Vec<Ipv6Addr>,
}

impl Addresses {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.v4.iter().copied().map(IpAddr::from);
        v4.chain(self.v6.iter().copied().map(IpAddr::from))
    }
}

/// What is known of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// It has these addresses.
    Addresses(&'a Addresses),
    /// It only has names below it.
    Parent,
    /// There is no such name.
    Nothing,
}

/// The table of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    known: bool,
    addresses: BTreeMap<String, Addresses>,
    parents: BTreeSet<String>,
    reverse: BTreeMap<IpAddr, String>,
}

impl Names {
    /// These names, fully qualified (`redis.demo.mesh`), and no others.
    ///
    /// The default, in contrast, is that nothing is known yet: then a name of the zone is not said to be absent.
    pub fn new(names: impl IntoIterator<Item = (String, Addresses)>) -> Self {
        let lower = |(name, addresses): (String, _)| {
            (name.strip_suffix('.').unwrap_or(&name).to_ascii_lowercase(), addresses)
        };
        let addresses: BTreeMap<_, Addresses> = names.into_iter().map(lower).collect();
        let parents = addresses.keys().flat_map(|name| above(name)).map(str::to_owned).collect();
        let reverse = addresses
            .iter()
            .rev() // Of several names of an address the first stays.
            .flat_map(|(name, addresses)| addresses.all().map(|address| (address, name.clone())))
            .filter(|(address, _)| is_virtual(*address))
            .collect();
        Self { known: true, addresses, parents, reverse }
    }

    /// Whether the table has been received.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// Each name that has a record, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Addresses)> {
        self.addresses.iter().map(|(name, addresses)| (name.as_str(), addresses))
    }

    /// Looks a name up that is in lower case and without the last dot.
    pub fn find(&self, name: &str) -> Found<'_> {
        match self.addresses.get(name) {
            Some(addresses) => Found::Addresses(addresses),
            None if self.parents.contains(name) => Found::Parent,
            None => Found::Nothing,
        }
    }

    /// The name of a virtual address. Other addresses (of pods) have their names elsewhere.
    pub fn name_of(&self, address: IpAddr) -> Option<&str> {
        self.reverse.get(&address).map(String::as_str)
    }
}

/// Whether an address is the mesh's own invention.
fn is_virtual(address: IpAddr) -> bool {
    VIRTUAL_ADDRESSES.iter().any(|(range, bits)| match (range, address) {
        (IpAddr::V4(range), IpAddr::V4(address)) => {
            (range.to_bits() ^ address.to_bits()).leading_zeros() >= u32::from(*bits)
        }
        (IpAddr::V6(range), IpAddr::V6(address)) => {
            (range.to_bits() ^ address.to_bits()).leading_zeros() >= u32::from(*bits)
        }
        _ => false,
    })
}

/// `a.b.c` → `b.c`, `c`.
fn above(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(parent(name), |name| parent(name))
}

fn parent(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, parent)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(v4: &[&str], v6: &[&str]) -> Addresses {
        Addresses {
            v4: v4.iter().map(|text| text.parse().unwrap()).collect(),
            v6: v6.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn names_above_a_name_exist() {
        let redis = addresses(&["240.0.0.1"], &[]);
        let names = Names::new([("Redis.Demo.mesh.".into(), redis.clone())]);
        assert_eq!(names.find("redis.demo.mesh"), Found::Addresses(&redis));
        assert_eq!(names.find("demo.mesh"), Found::Parent);
        assert_eq!(names.find("mesh"), Found::Parent);
        for absent in ["edis.demo.mesh", "x.redis.demo.mesh", "emo.mesh", ""] {
            assert_eq!(names.find(absent), Found::Nothing, "{absent}");
        }
    }

    #[test]
    fn only_virtual_addresses_have_names_here() {
        let names = Names::new([
            ("redis.demo.mesh".into(), addresses(&["240.0.0.1"], &["fd75:7273:6100::1"])),
            ("alias.demo.mesh".into(), addresses(&["240.0.0.1"], &[])),
            ("pod.demo.mesh".into(), addresses(&["10.0.0.1", "239.255.255.255"], &["fd00::2"])),
        ]);
        let name_of = |text: &str| names.name_of(text.parse().unwrap());
        assert_eq!(name_of("240.0.0.1"), Some("alias.demo.mesh"));
        assert_eq!(name_of("fd75:7273:6100::1"), Some("redis.demo.mesh"));
        assert_eq!((name_of("10.0.0.1"), name_of("fd00::2"), name_of("239.255.255.255")), (None, None, None));
    }

    #[test]
    fn nothing_known_is_not_an_empty_table() {
        assert!(!Names::default().is_known());
        assert!(Names::new([]).is_known());
    }
}
