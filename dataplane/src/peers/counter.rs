//! The counter. Pure: the time is passed in.
//!
//! Invariant: at most `MAX_PEERS` peers are told apart, the ones that called last; nothing that was counted is lost, it
//! is counted with others.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use ursa_envoy::Transport;

/// So many peers are told apart.
const MAX_PEERS: usize = 256;

/// Who calls where, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// The inbound's port.
    pub port: u16,
    /// How it calls.
    pub transport: Transport,
    /// Its address; `None`: others, that are not told apart.
    pub address: Option<IpAddr>,
}

/// How often, and when last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Connections, or requests of plaintext HTTP.
    pub count: u64,
    /// When the last of them was counted.
    pub last: SystemTime,
}

/// Counts by peer.
#[derive(Clone, Debug, Default)]
pub struct PeerCounter {
    peers: BTreeMap<Peer, Seen>,
    /// Those that are not told apart any more, by inbound and transport.
    others: BTreeMap<Peer, Seen>,
}

impl PeerCounter {
    /// Counts a connection or request. An IPv4 address that is written as an IPv6 one is taken for what it is.
    pub fn count(&mut self, port: u16, transport: Transport, address: IpAddr, now: SystemTime) {
        let peer = Peer { port, transport, address: Some(address.to_canonical()) };
        if !self.peers.contains_key(&peer) && self.peers.len() >= MAX_PEERS {
            self.merge_oldest();
        }
        add(&mut self.peers, peer, Seen { count: 1, last: now });
    }

    /// All that was counted, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Peer, &Seen)> {
        self.peers.iter().chain(&self.others)
    }

    /// Makes room: who has not called for the longest time is one of the others from now on.
    fn merge_oldest(&mut self) {
        let oldest = self.peers.iter().min_by_key(|(_, seen)| seen.last).map(|(peer, _)| *peer);
        if let Some((peer, seen)) = oldest.and_then(|oldest| self.peers.remove_entry(&oldest)) {
            add(&mut self.others, Peer { address: None, ..peer }, seen);
        }
    }
}

fn add(to: &mut BTreeMap<Peer, Seen>, peer: Peer, more: Seen) {
    let seen = to.entry(peer).or_insert(Seen { count: 0, ..more });
    // The clock may have been set back.
    *seen = Seen { count: seen.count.saturating_add(more.count), last: seen.last.max(more.last) };
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    fn ip(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number))
    }

    fn counts(counter: &PeerCounter) -> Vec<(u16, Transport, Option<IpAddr>, u64, SystemTime)> {
        let all = counter.iter();
        all.map(|(peer, seen)| (peer.port, peer.transport, peer.address, seen.count, seen.last)).collect()
    }

    #[test]
    fn each_peer_is_counted_by_inbound_and_transport() {
        let (plaintext, tls) = (Transport::Plaintext, Transport::Tls);
        let mut counter = PeerCounter::default();
        assert_eq!(counts(&counter), []);
        for (port, transport, address, second) in [
            (80, plaintext, "10.0.0.1", 1),
            (80, plaintext, "::ffff:10.0.0.1", 2),
            (80, tls, "10.0.0.1", 3),
            (81, plaintext, "10.0.0.1", 5),
            (81, plaintext, "10.0.0.1", 4),
            (80, plaintext, "fd00::1", 6),
        ] {
            counter.count(port, transport, address.parse().unwrap(), at(second));
        }
        let six = Some("fd00::1".parse().unwrap());
        assert_eq!(
            counts(&counter),
            [
                (80, plaintext, Some(ip(1)), 2, at(2)),
                (80, plaintext, six, 1, at(6)),
                (80, tls, Some(ip(1)), 1, at(3)),
                (81, plaintext, Some(ip(1)), 2, at(5)),
            ]
        );
    }

    #[test]
    fn those_that_called_last_are_told_apart_and_no_call_is_lost() {
        let mut counter = PeerCounter::default();
        let many = u32::try_from(MAX_PEERS).unwrap() * 3;
        for number in 0..many {
            counter.count(80, Transport::Plaintext, ip(number), at(u64::from(number)));
            // Who calls all the time is not forgotten, however many come by.
            counter.count(80, Transport::Tls, ip(0), at(u64::from(number)));
        }
        let all = counts(&counter);
        assert_eq!(all.len(), MAX_PEERS + 1);
        assert_eq!(all.iter().map(|(.., count, _)| count).sum::<u64>(), u64::from(many) * 2);
        let of = |transport, address| all.iter().find(|peer| (peer.1, peer.2) == (transport, address));
        let last = u64::from(many) - 1;
        assert_eq!(of(Transport::Tls, Some(ip(0))).map(|peer| peer.3), Some(u64::from(many)));
        assert_eq!(of(Transport::Plaintext, Some(ip(many - 1))).map(|peer| peer.4), Some(at(last)));
        let told_apart = u64::try_from(MAX_PEERS).unwrap() - 1;
        let others = of(Transport::Plaintext, None).map(|peer| (peer.3, peer.4));
        assert_eq!(others, Some((u64::from(many) - told_apart, at(last - told_apart))));
        assert_eq!(of(Transport::Plaintext, Some(ip(0))), None);
    }
}
