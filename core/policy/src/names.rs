//! The mesh's own names and addresses of services: `<service>.mesh`, at an address that stands for the service.
//!
//! Addresses follow from mesh and service alone, so that all replicas and restarts agree without having to write them down.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sha2::{Digest as _, Sha256};
use ursa_model::VIRTUAL_ADDRESSES;

/// The domain of the names.
const DOMAIN: &str = "mesh";

/// The addresses that stand for a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VirtualAddress {
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
}

impl VirtualAddress {
    /// The one that a workload with this address can call.
    pub(crate) fn like(&self, own: IpAddr) -> IpAddr {
        if own.is_ipv4() { self.v4.into() } else { self.v6.into() }
    }
}

/// What a workload calls a service by; `None` for services whose names are none of DNS (RFC 1123).
pub(crate) fn name(service: &str) -> Option<String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (service.len() < 240 && service.split('.').all(label)).then(|| format!("{service}.{DOMAIN}"))
}

/// An address for each of these services, which are ordered. Two that would get the same (one in 268 million) are told
/// apart by the order.
pub(crate) fn virtual_addresses<'a>(
    mesh: &str,
    services: impl Iterator<Item = &'a str>,
) -> BTreeMap<String, VirtualAddress> {
    let mut taken = HashSet::new();
    let mut all = BTreeMap::new();
    for service in services {
        let free = (0_u32..).map(|attempt| address(mesh, service, attempt));
        let found = free.into_iter().find(|found| taken.insert(found.v4));
        all.insert(service.to_owned(), found.expect("there are more addresses than services"));
    }
    all
}

/// The address that a service gets unless another has it.
pub(crate) fn first_address(mesh: &str, service: &str) -> VirtualAddress {
    address(mesh, service, 0)
}

fn address(mesh: &str, service: &str, attempt: u32) -> VirtualAddress {
    let mut hasher = Sha256::new();
    for part in [mesh, service] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.update(attempt.to_be_bytes());
    let digest: [u8; 32] = hasher.finalize().into();
    let [(IpAddr::V4(range4), _), (IpAddr::V6(range6), bits6)] = VIRTUAL_ADDRESSES else {
        unreachable!("one range a family")
    };
    let low4 = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) >> 4;
    // The last of the range is the broadcast address.
    let v4 = Ipv4Addr::from(u32::from(range4) | low4.min(0x0fff_fffe));
    let mut low6 = [0; 16];
    low6.copy_from_slice(&digest[4..20]);
    let v6 = Ipv6Addr::from(u128::from(range6) | (u128::from_be_bytes(low6) >> bits6));
    VirtualAddress { v4, v6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_depends_on_its_service_alone() {
        let few = virtual_addresses("default", ["b.shop"].into_iter());
        let many = virtual_addresses("default", ["a.shop", "b.shop", "c.shop"].into_iter());
        assert_eq!(few["b.shop"], many["b.shop"]);
        assert_ne!(many["a.shop"], many["b.shop"]);
        assert_ne!(many["a.shop"], virtual_addresses("other", ["a.shop"].into_iter())["a.shop"]);
    }

    #[test]
    fn addresses_are_of_their_ranges() {
        for (_, VirtualAddress { v4, v6 }) in virtual_addresses("default", ["a", "b", "c", "d"].into_iter()) {
            assert!(v4.octets()[0] >= 240 && !v4.is_broadcast(), "{v4}");
            assert_eq!(v6.segments()[..3], [0xfd75, 0x7273, 0x6100], "{v6}");
        }
    }

    #[test]
    fn what_dns_cannot_say_has_no_name() {
        assert_eq!(name("redis.shop").as_deref(), Some("redis.shop.mesh"));
        for service in ["Redis", "a_b", "", "a..b", "-a"] {
            assert_eq!(name(service), None, "{service}");
        }
    }
}
