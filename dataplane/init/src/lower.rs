//! Words each rule as the kernel's nftables takes it over netlink.
//!
//! Invariant: it is the same ruleset that prints as an nftables script; the tests compare what the kernel then lists.

use std::net::IpAddr;

use nlink::netlink::nftables::{
    BaseChain, Chain as NftChain, CmpOp, Expr, Family as NftFamily, FibFlags, FibResult, Field, FilterHook,
    Item, Match as NftMatch, MatchOp, MetaKey, NatHook, Policy, Priority, Register, Rule as NftRule,
    RuleSpec, Stmt, TcpFlags, Transaction, Value, Verdict as NftVerdict,
};
use nlink::netlink::types::route::RouteType;
use ursa_redirect::{ChainName, Cidr, Family, Hook, Match, Protocol, Rule, Ruleset, TABLE, Table, Verdict};

/// Adds the table with all its chains and rules to a transaction.
pub(crate) fn add(transaction: Transaction, ruleset: &Ruleset) -> Result<Transaction, nlink::Error> {
    let Ruleset { chains, ipv6: _ } = ruleset;
    let mut transaction = transaction.add_table(TABLE, NftFamily::Inet);
    for chain in chains {
        transaction = transaction.add_chain(base(chain.name)?);
    }
    for chain in chains {
        for rule in &chain.rules {
            transaction = transaction.add_rule(NftRule::from_spec(TABLE, chain.name.nft(), spec(rule)?));
        }
    }
    Ok(transaction)
}

fn base(name: ChainName) -> Result<NftChain, nlink::Error> {
    let chain = NftChain::new(TABLE, name.nft())?.family(NftFamily::Inet);
    let Some(hook) = name.hook() else { return Ok(chain) };
    let priority = Priority::Custom(name.table().priority());
    let base = match (name.table(), hook) {
        (Table::Nat, Hook::Prerouting) => BaseChain::nat(NatHook::Prerouting, priority),
        (Table::Nat, Hook::Output) => BaseChain::nat(NatHook::Output, priority),
        (Table::Raw, Hook::Prerouting) => BaseChain::filter(FilterHook::Prerouting, priority),
        (Table::Raw, Hook::Output) => BaseChain::filter(FilterHook::Output, priority),
    };
    Ok(chain.base(base.policy(Policy::Accept)))
}

fn spec(rule: &Rule) -> Result<RuleSpec, nlink::Error> {
    let Rule { matches, verdict, why } = rule;
    let items = matches.iter().flat_map(|one| items(*one)).chain([item(*verdict)?]);
    Ok(items.collect::<RuleSpec>().comment(*why))
}

fn items(one: Match) -> Vec<Item> {
    let matched = match one {
        Match::Family(Family::V4) => NftMatch::eq(Field::NfProto, NFPROTO_IPV4),
        Match::Family(Family::V6) => NftMatch::eq(Field::NfProto, NFPROTO_IPV6),
        Match::Protocol(Protocol::Tcp) => NftMatch::eq(Field::L4Proto, IPPROTO_TCP),
        Match::Protocol(Protocol::Udp) => NftMatch::eq(Field::L4Proto, IPPROTO_UDP),
        Match::Opened => {
            let bits = |flags: &[TcpFlags]| flags.iter().fold(0, |bits, flag| bits | u64::from(flag.bits()));
            let mask = bits(&[TcpFlags::FIN, TcpFlags::SYN, TcpFlags::RST, TcpFlags::ACK]);
            NftMatch::new(Field::TcpFlags, MatchOp::Ne, Value::Masked { value: bits(&[TcpFlags::SYN]), mask })
        }
        // nlink has no field for it.
        Match::Uid(uid) => {
            let load = Expr::Meta { dreg: Register::R0, key: MetaKey::SkUid };
            let data = uid.to_ne_bytes().to_vec();
            return vec![load.into(), Expr::Cmp { sreg: Register::R0, op: CmpOp::Eq, data }.into()];
        }
        Match::ToLoopback => NftMatch::eq(Field::Oifname, "lo"),
        Match::ToHost => {
            NftMatch::eq(Field::Fib { flags: FibFlags::DADDR, result: FibResult::AddrType }, RouteType::Local)
        }
        Match::Source(cidr) => NftMatch::eq(by_family(cidr, Field::Ip4Saddr, Field::Ip6Saddr), block(cidr)),
        Match::Destination(cidr) => {
            NftMatch::eq(by_family(cidr, Field::Ip4Daddr, Field::Ip6Daddr), block(cidr))
        }
        Match::SourcePort(Protocol::Tcp, port) => NftMatch::eq(Field::TcpSport, port),
        Match::SourcePort(Protocol::Udp, port) => NftMatch::eq(Field::UdpSport, port),
        Match::DestinationPort(protocol, range) => {
            let field = match protocol {
                Protocol::Tcp => Field::TcpDport,
                Protocol::Udp => Field::UdpDport,
            };
            let (first, last) = (range.first(), range.last());
            NftMatch::eq(field, if first == last { first.into() } else { Value::range(first, last) })
        }
    };
    vec![matched.into()]
}

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;

fn by_family(cidr: Cidr, v4: Field, v6: Field) -> Field {
    match cidr.address() {
        IpAddr::V4(_) => v4,
        IpAddr::V6(_) => v6,
    }
}

fn block(cidr: Cidr) -> Value {
    Value::Prefix(cidr.address(), cidr.prefix())
}

fn item(verdict: Verdict) -> Result<Item, nlink::Error> {
    Ok(match verdict {
        Verdict::Return => NftVerdict::Return.into(),
        Verdict::Goto(chain) => NftVerdict::GotoTo(chain.nft().try_into()?).into(),
        Verdict::Redirect(port) => Stmt::Redirect(Some(port)).into(),
        Verdict::Zone(zone) => Stmt::SetCtZone(zone).into(),
    })
}
