//! Writes a ruleset for `iptables-restore --noflush` and `ip6tables-restore --noflush`, for hosts without nftables.
//!
//! Invariant: only chains whose names begin with `URSA_` are filled or emptied, and only calls of such are removed from
//! others; what is there already is read from `iptables-save`, so that doing it twice is doing it once.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::{ChainName, Family, Hook, Match, Protocol, Rule, Ruleset, Settings, Table, Verdict, rules};

/// What the names of all our chains begin with.
const PREFIX: &str = "URSA_";

const TABLES: [Table; 2] = [Table::Nat, Table::Raw];

/// The texts for a host on which there is nothing of ours: IPv4's, and IPv6's if it is captured.
pub fn iptables(settings: &Settings) -> (String, Option<String>) {
    let ruleset = rules(settings);
    let text = |family| up(&ruleset, family, &Saved::default());
    (text(Family::V4), settings.ipv6.then(|| text(Family::V6)))
}

/// What of ours a host has already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    chains: BTreeSet<(Table, String)>,
    /// The rules in others' chains that call ours, without the leading `-A`.
    calls: Vec<(Table, String)>,
}

impl Saved {
    /// Reads what `iptables-save` prints.
    pub fn read(text: &str) -> Self {
        let mut saved = Self::default();
        let mut table = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = TABLES.into_iter().find(|table| table.iptables() == name);
            }
            let Some(table) = table else { continue };
            if let Some(chain) = line.strip_prefix(':') {
                let name = chain.split_whitespace().next().unwrap_or_default();
                if name.starts_with(PREFIX) {
                    saved.chains.insert((table, name.to_owned()));
                }
            } else if let Some(call) = line.strip_prefix("-A ") {
                let ours = |words: &[&str]| matches!(words, ["-j" | "-g", to] if to.starts_with(PREFIX));
                let words: Vec<&str> = call.split_whitespace().collect();
                if !call.starts_with(PREFIX) && words.windows(2).any(ours) {
                    saved.calls.push((table, call.to_owned()));
                }
            }
        }
        saved
    }

    /// Whether there is nothing of ours.
    pub fn is_empty(&self) -> bool {
        let Self { chains, calls } = self;
        chains.is_empty() && calls.is_empty()
    }

    fn calls(&self, of: Table) -> impl Iterator<Item = &str> {
        self.calls.iter().filter(move |(table, _)| *table == of).map(|(_, call)| call.as_str())
    }

    fn chains(&self, of: Table) -> impl Iterator<Item = &str> {
        self.chains.iter().filter(move |(table, _)| *table == of).map(|(_, name)| name.as_str())
    }
}

/// The text that puts the ruleset in the place of what there is of ours. Each table changes in one transaction.
pub fn up(ruleset: &Ruleset, family: Family, saved: &Saved) -> String {
    text(saved, |table| Wanted::of(ruleset, family, table))
}

/// The text that removes all that there is of ours.
pub fn undo(saved: &Saved) -> String {
    text(saved, |_| Wanted::default())
}

/// What is to be in a table.
#[derive(Default)]
struct Wanted {
    chains: Vec<&'static str>,
    rules: Vec<String>,
}

impl Wanted {
    fn of(ruleset: &Ruleset, family: Family, table: Table) -> Self {
        let mut wanted = Self::default();
        let mut calls = Vec::new();
        for chain in ruleset.chains.iter().filter(|chain| chain.name.table() == table) {
            let name = chain.name.iptables();
            wanted.chains.push(name);
            let of_family = |rule: &&Rule| rule.family().is_none_or(|only| only == family);
            wanted.rules.extend(chain.rules.iter().filter(of_family).map(|rule| appended(name, rule)));
            if let Some(hook) = chain.name.hook() {
                // First of all, as with nftables; see [`Table::priority`].
                calls.push(format!("-I {} 1 -j {name}", hook.iptables()));
            }
        }
        wanted.rules.append(&mut calls);
        wanted
    }
}

fn text(saved: &Saved, wanted: impl Fn(Table) -> Wanted) -> String {
    let mut text = String::new();
    for table in TABLES {
        let Wanted { chains, rules } = wanted(table);
        let stale: Vec<&str> = saved.chains(table).filter(|name| !chains.contains(name)).collect();
        // Naming a chain empties it or makes it.
        let mut lines: Vec<String> = chains.iter().map(|name| format!(":{name} - [0:0]")).collect();
        lines.extend(saved.calls(table).map(|call| format!("-D {call}")));
        lines.extend(stale.iter().map(|name| format!("-F {name}")));
        lines.extend(rules);
        lines.extend(stale.iter().map(|name| format!("-X {name}")));
        if !lines.is_empty() {
            let _ = write!(text, "*{}\n{}\nCOMMIT\n", table.iptables(), lines.join("\n"));
        }
    }
    text
}

fn appended(chain: &str, rule: &Rule) -> String {
    let Rule { matches, verdict, why: _ } = rule;
    let mut line = format!("-A {chain}");
    // The protocol is said once, before what only it has.
    for one in matches {
        let words = words(*one);
        if !words.is_empty() {
            line = format!("{line} {words}");
        }
    }
    format!("{line} {}", target(*verdict))
}

fn words(one: Match) -> String {
    match one {
        Match::Family(_) => String::new(), // Each family has a text of its own.
        Match::Protocol(protocol) => format!("-p {protocol}"),
        Match::Opened => format!("-p {} ! --syn", Protocol::Tcp),
        Match::Uid(uid) => format!("-m owner --uid-owner {uid}"),
        Match::ToLoopback => "-o lo".to_owned(),
        Match::ToHost => "-m addrtype --dst-type LOCAL".to_owned(),
        Match::Source(cidr) => format!("-s {cidr}"),
        Match::Destination(cidr) => format!("-d {cidr}"),
        Match::SourcePort(protocol, port) => format!("-p {protocol} --sport {port}"),
        Match::DestinationPort(protocol, range) => format!("-p {protocol} --dport {}", range.joined(':')),
    }
}

fn target(verdict: Verdict) -> String {
    match verdict {
        Verdict::Return => "-j RETURN".to_owned(),
        Verdict::Goto(chain) => format!("-g {}", chain.iptables()),
        Verdict::Redirect(port) => format!("-j REDIRECT --to-ports {port}"),
        Verdict::Zone(zone) => format!("-j CT --zone {zone}"),
    }
}

impl ChainName {
    fn iptables(self) -> &'static str {
        match self {
            Self::Inbound => "URSA_INBOUND",
            Self::Proxy => "URSA_PROXY",
            Self::Prerouting => "URSA_PREROUTING",
            Self::Output => "URSA_OUTPUT",
            Self::DnsOutput => "URSA_DNS_OUTPUT",
        }
    }
}

impl Table {
    fn iptables(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Raw => "raw",
        }
    }
}

impl Hook {
    fn iptables(self) -> &'static str {
        match self {
            Self::Prerouting => "PREROUTING",
            Self::Output => "OUTPUT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "\
*filter
:INPUT ACCEPT [0:0]
-A INPUT -j URSA_OUTPUT
COMMIT
*nat
:OUTPUT ACCEPT [3:180]
:DOCKER_OUTPUT - [0:0]
:URSA_OLD - [0:0]
:URSA_OUTPUT - [0:0]
-A OUTPUT -j URSA_OUTPUT
-A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT
-A URSA_OUTPUT -p tcp -g URSA_OLD
COMMIT
";

    #[test]
    fn undoing_removes_what_is_ours_and_nothing_else() {
        let expected = "*nat\n-D OUTPUT -j URSA_OUTPUT\n-F URSA_OLD\n-F URSA_OUTPUT\n-X URSA_OLD\n-X URSA_OUTPUT\nCOMMIT\n";
        assert_eq!(undo(&Saved::read(SAVED)), expected);
    }

    #[test]
    fn doing_it_again_replaces_calls_and_drops_chains_that_are_no_more() {
        let text = up(&rules(&Settings::default()), Family::V4, &Saved::read(SAVED));
        assert_eq!(text.matches("-D OUTPUT -j URSA_OUTPUT\n").count(), 1, "{text}");
        assert_eq!(text.matches("-I OUTPUT 1 -j URSA_OUTPUT\n").count(), 1, "{text}");
        assert!(text.contains("-F URSA_OLD\n") && text.contains("-X URSA_OLD\n"), "{text}");
        assert!(!text.contains("DOCKER") && !text.contains("-X URSA_OUTPUT"), "{text}");
    }

    #[test]
    fn where_nothing_is_ours_there_is_nothing_to_undo() {
        let saved = Saved::read("*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n");
        assert!(saved.is_empty());
        assert_eq!(undo(&saved), "");
    }
}
