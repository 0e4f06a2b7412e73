//! Which of a workload's traffic goes to its proxy, as rules for the kernel's packet filter.
//!
//! [`Settings`] → [`rules`] → [`Ruleset`], which prints as an nftables script, is sent over netlink by `ursa-init`, and
//! is rendered by [`iptables`] where there is no nftables. Invariant: there is one list of rules; the renderings only
//! differ in words.

mod cidr;
pub mod iptables;
mod nft;
mod ports;
mod rules;
mod ruleset;
mod settings;
mod uids;

pub use cidr::{Cidr, Cidrs, CidrsError};
pub use nft::UNDO;
pub use ports::{PortRange, Ports, PortsError};
pub use rules::rules;
pub use ruleset::{Chain, ChainName, Family, Hook, Match, Protocol, Rule, Ruleset, TABLE, Table, Verdict};
pub use settings::{Settings, SettingsError};
pub use uids::{Uids, UidsError};
