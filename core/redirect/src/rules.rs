//! Decides what is captured: settings → rules.
//!
//! Invariant: only a packet that opens a connection is redirected, so connections from before the capture live on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{Chain, ChainName, Cidr, Family, Match, PortRange, Protocol, Rule, Ruleset, Settings, Verdict};

/// The sources from which the proxy reaches its own workload; they are not captured, or the two would never meet.
const PROXY_SOURCES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)), IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6))];

const LOOPBACK: [Cidr; 2] = [Cidr::V4_LOOPBACK, Cidr::V6_LOOPBACK];

const TCP: Match = Match::Protocol(Protocol::Tcp);

/// What the kernel is to be told.
pub fn rules(settings: &Settings) -> Ruleset {
    let chain = |name: ChainName, rules: Vec<Rule>| {
        let pass_v6 = rule(&[Match::Family(Family::V6)], Verdict::Return, "IPv6 is not captured");
        let first = (!settings.ipv6 && name.hook().is_some()).then_some(pass_v6);
        let of_family = |rule: &Rule| settings.ipv6 || rule.family() != Some(Family::V6);
        Chain { name, rules: first.into_iter().chain(rules.into_iter().filter(of_family)).collect() }
    };
    let mut chains = Vec::new();
    if let Some(port) = settings.inbound_port {
        chains.push(chain(ChainName::Inbound, inbound(settings, port)));
        chains.push(chain(ChainName::Proxy, proxy()));
        chains.push(chain(ChainName::Prerouting, prerouting()));
    }
    chains.push(chain(ChainName::Output, output(settings)));
    if let Some(port) = settings.dns_port {
        chains.push(chain(ChainName::DnsOutput, dns_output(settings, port)));
    }
    Ruleset { chains, ipv6: settings.ipv6 }
}

fn rule(matches: &[Match], verdict: Verdict, why: &'static str) -> Rule {
    Rule { matches: matches.to_vec(), verdict, why }
}

fn opened() -> Rule {
    rule(&[Match::Opened], Verdict::Return, "connections from before the capture live on")
}

fn destination_port(protocol: Protocol, port: u16) -> Match {
    Match::DestinationPort(protocol, PortRange::one(port))
}

/// Every packet here opens a TCP connection to the workload.
fn inbound(settings: &Settings, port: u16) -> Vec<Rule> {
    let own = settings.proxy_ports().into_iter().map(|(_, own)| {
        rule(&[destination_port(Protocol::Tcp, own)], Verdict::Return, "already on its way to the proxy")
    });
    let excluded = settings.exclude_inbound_ports.ranges().iter().map(|range| {
        rule(&[Match::DestinationPort(Protocol::Tcp, *range)], Verdict::Return, "excluded inbound port")
    });
    let rest = rule(&[TCP], Verdict::Redirect(port), "to the proxy's inbound side");
    own.chain(excluded).chain([rest]).collect()
}

/// A proxy that sends to an address of its own host has been called by its workload, for a service that the workload
/// itself serves: that call is an inbound one.
fn proxy() -> Vec<Rule> {
    let delivery = PROXY_SOURCES.map(|source| {
        rule(&[Match::Source(Cidr::host(source))], Verdict::Return, "the proxy hands over to the workload")
    });
    let loopback = LOOPBACK.map(|cidr| rule(&[Match::Destination(cidr)], Verdict::Return, "loopback"));
    let own = rule(&[Match::ToLoopback, TCP], Verdict::Goto(ChainName::Inbound), "the workload calls itself");
    delivery.into_iter().chain(loopback).chain([own]).collect()
}

/// What the host sends itself was judged on its way out, and is not translated a second time.
fn prerouting() -> Vec<Rule> {
    vec![
        opened(),
        // A host may forward what others send (containers on a VM); that is not the workload's.
        rule(&[Match::ToHost, TCP], Verdict::Goto(ChainName::Inbound), "arrives for the workload"),
    ]
}

fn output(settings: &Settings) -> Vec<Rule> {
    let uid = Match::Uid(settings.proxy_uid);
    let mut rules = vec![opened()];
    rules.push(match settings.inbound_port {
        Some(_) => rule(&[uid], Verdict::Goto(ChainName::Proxy), "the proxy does not capture itself"),
        None => rule(&[uid], Verdict::Return, "the proxy does not capture itself"),
    });
    rules.extend(excluded_users(settings));
    if let Some(port) = settings.dns_port {
        // Before loopback, where hosts and containers have resolvers of their own.
        rules.extend([Protocol::Tcp, Protocol::Udp].map(|protocol| {
            rule(&[destination_port(protocol, 53)], Verdict::Redirect(port), "the agent answers DNS")
        }));
    }
    rules.extend(LOOPBACK.map(|cidr| rule(&[Match::Destination(cidr)], Verdict::Return, "loopback")));
    rules.push(rule(
        &[Match::ToLoopback, TCP],
        Verdict::Return,
        "the workload calls itself at the host's own address",
    ));
    rules.extend(settings.exclude_outbound_ports.ranges().iter().map(|range| {
        rule(&[Match::DestinationPort(Protocol::Tcp, *range)], Verdict::Return, "excluded outbound port")
    }));
    rules.extend(
        settings
            .exclude_outbound_cidrs
            .blocks()
            .iter()
            .map(|cidr| rule(&[within(*cidr)], Verdict::Return, "excluded outbound addresses")),
    );
    let capture = Verdict::Redirect(settings.outbound_port);
    let only = settings.only_outbound_cidrs.blocks();
    rules
        .extend(only.iter().map(|cidr| rule(&[within(*cidr), TCP], capture, "to the proxy's outbound side")));
    if only.is_empty() {
        rules.push(rule(&[TCP], capture, "to the proxy's outbound side"));
    }
    rules
}

fn excluded_users(settings: &Settings) -> impl Iterator<Item = Rule> {
    settings.exclude_uids.iter().map(|uid| rule(&[Match::Uid(uid)], Verdict::Return, "excluded user"))
}

/// Nothing can be compared with a prefix of no bits, but the family can.
fn within(cidr: Cidr) -> Match {
    if cidr.prefix() == 0 { Match::Family(cidr.family()) } else { Match::Destination(cidr) }
}

/// Gives captured questions a zone of their own, which is the agent's port, so that no one else takes it by chance.
///
/// The agent asks the same resolver in turn, and may do so from a port that a process used just before. To conntrack the
/// two are one flow for a while, and the agent's question would be translated as that process's was: back to the agent.
fn dns_output(settings: &Settings, port: u16) -> Vec<Rule> {
    let uid = Match::Uid(settings.proxy_uid);
    let zone = Verdict::Zone(port);
    let mut rules = vec![
        rule(&[uid, Match::SourcePort(Protocol::Udp, port)], zone, "answers belong to captured questions"),
        rule(&[uid], Verdict::Return, "the agent asks others"),
    ];
    rules.extend(excluded_users(settings));
    rules.push(rule(&[destination_port(Protocol::Udp, 53)], zone, "apart from what the agent asks itself"));
    rules
}
