//! The address `::6` of the loopback interface, from which a proxy reaches its own workload over IPv6.
//!
//! All of 127.0.0.0/8 is there already; of IPv6 only `::1` is. Invariant: it is there while IPv6 is captured on its way in.

use std::net::Ipv6Addr;
use std::path::Path;

use nlink::{Connection, Ipv6Address, Route};
use ursa_redirect::Settings;

/// The address.
pub(crate) const SOURCE: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// Whether a capture needs the address.
pub(crate) fn needs_source(settings: &Settings) -> bool {
    settings.ipv6 && settings.inbound_port.is_some()
}

/// Whether the kernel does IPv6 at all.
pub(crate) fn is_there() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// Adds the address, unless the loopback interface has it or is without IPv6.
pub(crate) async fn add() -> Result<(), nlink::Error> {
    let disabled = std::fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6");
    if disabled.is_ok_and(|text| text.trim() == "1") {
        return Ok(());
    }
    // Not preferred for longer than no time at all: only who asks for it by name sends from it.
    let address = Ipv6Address::new("lo", SOURCE, 128).valid_lifetime(u32::MAX).preferred_lifetime(0);
    match Connection::<Route>::new()?.add_address(address).await {
        Err(error) if !error.is_already_exists() => Err(error),
        _ => Ok(()),
    }
}

/// Removes the address, if it is there.
pub(crate) async fn remove() -> Result<(), nlink::Error> {
    Connection::<Route>::new()?.del_address_if_exists("lo", SOURCE.into(), 128).await.map(|_| ())
}
