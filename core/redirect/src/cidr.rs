//! Lists of address blocks as flags name them: `10.0.0.0/8,fd00::/8,192.0.2.7`.
//!
//! Invariant: a block has no bits beyond its prefix, and a list is sorted and names no block twice.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::ruleset::Family;

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// A set of address blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cidrs(Vec<Cidr>);

/// What is wrong with a list of address blocks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrsError {
    /// Neither an address nor a block.
    #[error("{0:?} is not an address block: write 10.0.0.0/8, fd00::/8 or a single address")]
    NotACidr(String),
    /// The prefix is longer than the address.
    #[error("{text:?} has a prefix longer than its address: {longest} is the longest")]
    TooLong {
        /// As it was written.
        text: String,
        /// How long a prefix may be.
        longest: u8,
    },
    /// The address has bits that the prefix cuts off.
    #[error("{text:?} has bits beyond its prefix: did you mean {meant}?")]
    BeyondPrefix {
        /// As it was written.
        text: String,
        /// The block around it.
        meant: Cidr,
    },
}

impl Cidr {
    pub(crate) const V4_LOOPBACK: Self = Self { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), prefix: 8 };
    pub(crate) const V6_LOOPBACK: Self = Self::host(IpAddr::V6(Ipv6Addr::LOCALHOST));

    /// The block of one address.
    pub const fn host(address: IpAddr) -> Self {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        Self { address, prefix }
    }

    /// The first address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// How many leading bits all its addresses share.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The family of its addresses.
    pub fn family(self) -> Family {
        if self.address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The block of this prefix around an address.
    fn around(address: IpAddr, prefix: u8) -> Self {
        let shift = u32::from(prefix);
        let address = match address {
            IpAddr::V4(v4) => (v4 & Ipv4Addr::from_bits(!u32::MAX.checked_shr(shift).unwrap_or(0))).into(),
            IpAddr::V6(v6) => (v6 & Ipv6Addr::from_bits(!u128::MAX.checked_shr(shift).unwrap_or(0))).into(),
        };
        Self { address, prefix }
    }
}

impl Cidrs {
    /// The blocks, in order.
    pub fn blocks(&self) -> &[Cidr] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Cidr> for Cidrs {
    fn from_iter<I: IntoIterator<Item = Cidr>>(blocks: I) -> Self {
        let mut blocks: Vec<Cidr> = blocks.into_iter().collect();
        blocks.sort();
        blocks.dedup();
        Self(blocks)
    }
}

impl FromStr for Cidr {
    type Err = CidrsError;

    fn from_str(text: &str) -> Result<Self, CidrsError> {
        let no_block = || CidrsError::NotACidr(text.to_owned());
        let Some((address, prefix)) = text.split_once('/') else {
            return text.parse().map(Self::host).map_err(|_| no_block());
        };
        let address: IpAddr = address.parse().map_err(|_| no_block())?;
        let prefix: u8 = prefix.parse().map_err(|_| no_block())?;
        let longest = Self::host(address).prefix;
        if prefix > longest {
            return Err(CidrsError::TooLong { text: text.to_owned(), longest });
        }
        let meant = Self::around(address, prefix);
        if meant.address == address {
            Ok(meant)
        } else {
            Err(CidrsError::BeyondPrefix { text: text.to_owned(), meant })
        }
    }
}

impl FromStr for Cidrs {
    type Err = CidrsError;

    /// Reads a list; an empty text is an empty list.
    fn from_str(text: &str) -> Result<Self, CidrsError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        text.split(',').map(|part| part.trim().parse()).collect()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, prefix } = self;
        if *self == Self::host(*address) { write!(f, "{address}") } else { write!(f, "{address}/{prefix}") }
    }
}

impl fmt::Display for Cidrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blocks: Vec<String> = self.0.iter().map(Cidr::to_string).collect();
        f.write_str(&blocks.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_and_single_addresses_are_read() {
        let text = "fd00::/8, 10.0.0.0/8,192.0.2.7/32,10.0.0.0/8,::/0,0.0.0.0/0";
        let cidrs: Cidrs = text.parse().unwrap();
        assert_eq!(cidrs.to_string(), "0.0.0.0/0,10.0.0.0/8,192.0.2.7,::/0,fd00::/8");
        assert_eq!("".parse(), Ok(Cidrs::default()));
    }

    #[test]
    fn an_error_names_the_bad_part_and_what_may_be_meant() {
        let error = |text: &str| text.parse::<Cidrs>().unwrap_err().to_string();
        assert!(error("10.0.0.0/8,ten").starts_with("\"ten\" is not an address block"));
        assert!(error("10.0.0.0/x").starts_with("\"10.0.0.0/x\" is not an address block"));
        assert_eq!(
            error("10.0.0.0/33"),
            "\"10.0.0.0/33\" has a prefix longer than its address: 32 is the longest"
        );
        assert_eq!(
            error("10.1.2.3/8"),
            "\"10.1.2.3/8\" has bits beyond its prefix: did you mean 10.0.0.0/8?"
        );
        assert_eq!(error("fd00::1/8"), "\"fd00::1/8\" has bits beyond its prefix: did you mean fd00::/8?");
        assert_eq!(error("1.2.3.4/0"), "\"1.2.3.4/0\" has bits beyond its prefix: did you mean 0.0.0.0/0?");
    }
}
