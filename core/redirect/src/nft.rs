//! Prints a ruleset as a script for `nft -f`.
//!
//! Invariant: a script replaces the table as a whole in one transaction, whether there was one or not.

use std::fmt;

use crate::{Chain, Family, Hook, Match, Protocol, Rule, Ruleset, TABLE, Table, Verdict};

/// The script that removes whatever a ruleset's script made.
pub const UNDO: &str = "add table inet ursa\ndelete table inet ursa\n";

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chains, ipv6: _ } = self;
        writeln!(f, "{UNDO}table inet {TABLE} {{")?;
        for chain in chains {
            write!(f, "{chain}")?;
        }
        f.write_str("}\n")
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, rules } = self;
        writeln!(f, "\tchain {} {{", name.nft())?;
        if let Some(hook) = name.hook() {
            let (table, priority) = (name.table(), name.table().priority());
            writeln!(f, "\t\ttype {table} hook {hook} priority {priority}; policy accept;")?;
        }
        for rule in rules {
            writeln!(f, "\t\t{rule}")?;
        }
        f.write_str("\t}\n")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nat => "nat",
            Self::Raw => "filter",
        })
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prerouting => "prerouting",
            Self::Output => "output",
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { matches, verdict, why } = self;
        for one in matches {
            write!(f, "{one} ")?;
        }
        write!(f, "{verdict} comment \"{why}\"")
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Family(Family::V4) => f.write_str("meta nfproto ipv4"),
            Self::Family(Family::V6) => f.write_str("meta nfproto ipv6"),
            Self::Protocol(protocol) => write!(f, "meta l4proto {protocol}"),
            Self::Opened => f.write_str("tcp flags & (fin | syn | rst | ack) != syn"),
            Self::Uid(uid) => write!(f, "meta skuid {uid}"),
            Self::ToLoopback => f.write_str("oifname \"lo\""),
            Self::ToHost => f.write_str("fib daddr type local"),
            Self::Source(cidr) => write!(f, "{} saddr {cidr}", cidr.family()),
            Self::Destination(cidr) => write!(f, "{} daddr {cidr}", cidr.family()),
            Self::SourcePort(protocol, port) => write!(f, "{protocol} sport {port}"),
            Self::DestinationPort(protocol, range) => write!(f, "{protocol} dport {range}"),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Return => f.write_str("return"),
            Self::Goto(chain) => write!(f, "goto {}", chain.nft()),
            Self::Redirect(port) => write!(f, "redirect to :{port}"),
            Self::Zone(zone) => write!(f, "ct zone set {zone}"),
        }
    }
}
