//! The rules of a capture as a value: what both packet filters are told, each in its words.
//!
//! Invariant: it holds only what nftables and iptables can both do, so no rendering has to give up on a rule.

use crate::{Cidr, PortRange};

/// The name of the one nftables table, of the family `inet`. Whatever is in it is ours.
pub const TABLE: &str = "ursa";

/// Every chain, those that others go to first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// The chains.
    pub chains: Vec<Chain>,
    /// Whether IPv6 is captured. Where it is not, the rules themselves let it pass.
    pub ipv6: bool,
}

/// A chain with its rules, of which the first that matches decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: ChainName,
    /// The rules, in order.
    pub rules: Vec<Rule>,
}

/// The chains that there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChainName {
    /// What arrives for the workload, from elsewhere or from its own proxy.
    Inbound,
    /// What the proxy sends.
    Proxy,
    /// What arrives at the host.
    Prerouting,
    /// What the host's processes send.
    Output,
    /// DNS that the host's processes send, before connections are looked up.
    DnsOutput,
}

/// Where a chain is called from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// On the way in.
    Prerouting,
    /// On the way out.
    Output,
}

/// What a chain may do, in iptables' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Rewrite where a new connection goes.
    Nat,
    /// Act before connections are looked up.
    Raw,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All of these must match; none matches everything.
    pub matches: Vec<Match>,
    /// What then happens.
    pub verdict: Verdict,
    /// Why the rule is there, for who lists the rules on a host. At most 100 bytes, no quotes.
    pub why: &'static str,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What is asked of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// It is of this family.
    Family(Family),
    /// It is of this protocol.
    Protocol(Protocol),
    /// It is of TCP, and does not open a connection.
    Opened,
    /// A process of this user sends it.
    Uid(u32),
    /// It goes out through the loopback interface.
    ToLoopback,
    /// It is sent to an address of this host.
    ToHost,
    /// It comes from one of these addresses.
    Source(Cidr),
    /// It goes to one of these addresses.
    Destination(Cidr),
    /// It comes from this port.
    SourcePort(Protocol, u16),
    /// It goes to one of these ports.
    DestinationPort(Protocol, PortRange),
}

/// What happens to a packet that matches. All but `Zone` end its way through the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes where it was sent.
    Return,
    /// The rules of another chain decide.
    Goto(ChainName),
    /// It goes to this port of the host; where it was sent to is remembered.
    Redirect(u16),
    /// Its connection is looked up among those of this zone only.
    Zone(u16),
}

impl ChainName {
    /// What calls the chain, if it isn't another one.
    pub fn hook(self) -> Option<Hook> {
        match self {
            Self::Inbound | Self::Proxy => None,
            Self::Prerouting => Some(Hook::Prerouting),
            Self::Output | Self::DnsOutput => Some(Hook::Output),
        }
    }

    /// What the chain may do.
    pub fn table(self) -> Table {
        match self {
            Self::Inbound | Self::Proxy | Self::Prerouting | Self::Output => Table::Nat,
            Self::DnsOutput => Table::Raw,
        }
    }

    /// Its name in the nftables table.
    pub fn nft(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Proxy => "proxy",
            Self::Prerouting => "prerouting",
            Self::Output => "output",
            Self::DnsOutput => "dns_output",
        }
    }
}

impl Table {
    /// When nftables calls a chain of the kind. Translation of ours comes before that of others, which is at −100: who
    /// translates a connection first wins, and containers' resolvers (Docker's 127.0.0.11) are reached by translation.
    pub fn priority(self) -> i32 {
        match self {
            Self::Nat => -110,
            Self::Raw => -300,
        }
    }
}

impl Rule {
    /// The only family the rule can match, if it names one.
    pub(crate) fn family(&self) -> Option<Family> {
        self.matches.iter().find_map(|one| match one {
            Match::Family(family) => Some(*family),
            Match::Source(cidr) | Match::Destination(cidr) => Some(cidr.family()),
            _ => None,
        })
    }
}
