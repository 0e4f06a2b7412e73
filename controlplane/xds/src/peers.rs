//! Whom an agent says that its proxy let in without an identity of the mesh. Pure.

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;
use ursa_crds::{MAX_UNAUTHENTICATED_PEERS, PeerTransport, UnauthenticatedPeer};
use ursa_proto::agent;

/// The peers, newest first, no more than are kept. What this version cannot read is left out.
pub(crate) fn read(told: agent::UnauthenticatedPeers) -> Arc<[UnauthenticatedPeer]> {
    let mut peers: Vec<_> = told.peers.into_iter().filter_map(peer).collect();
    peers.sort_by_key(|peer| (Reverse(peer.last_seen), peer.port, peer.transport, peer.address));
    peers.truncate(MAX_UNAUTHENTICATED_PEERS);
    peers.into()
}

fn peer(told: agent::UnauthenticatedPeer) -> Option<UnauthenticatedPeer> {
    let transport = match told.transport() {
        agent::PeerTransport::Plaintext => PeerTransport::Plaintext,
        agent::PeerTransport::Tls => PeerTransport::Tls,
        agent::PeerTransport::Unspecified => return None,
    };
    let agent::UnauthenticatedPeer { port, transport: _, address, count, last_seen_ms } = told;
    let address = match address.as_str() {
        "" => None,
        text => Some(text.parse().ok()?),
    };
    Some(UnauthenticatedPeer {
        port: port.try_into().ok().filter(|port| *port > 0)?,
        transport,
        address,
        dataplane: None,
        count,
        last_seen: Timestamp::from_millisecond(last_seen_ms.try_into().ok()?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(port: u32, transport: i32, address: &str, last_seen_ms: u64) -> agent::UnauthenticatedPeer {
        agent::UnauthenticatedPeer { port, transport, address: address.into(), count: 1, last_seen_ms }
    }

    #[test]
    fn peers_are_kept_newest_first_without_what_is_none() {
        let peers = vec![
            told(80, 1, "10.0.0.1", 1_000),
            told(80, 2, "", 3_000),
            told(81, 1, "fd00::1", 2_000),
            told(80, 0, "10.0.0.2", 9_000),
            told(80, 7, "10.0.0.2", 9_000),
            told(0, 1, "10.0.0.2", 9_000),
            told(70_000, 1, "10.0.0.2", 9_000),
            told(80, 1, "a name", 9_000),
            told(80, 1, "10.0.0.2", u64::MAX),
        ];
        let read = read(agent::UnauthenticatedPeers { peers });
        let seen: Vec<_> = read.iter().map(|p| (p.port, p.transport, p.last_seen.as_second())).collect();
        let (plaintext, tls) = (PeerTransport::Plaintext, PeerTransport::Tls);
        assert_eq!(seen, [(80, tls, 3), (81, plaintext, 2), (80, plaintext, 1)]);
        assert_eq!((read[0].address, read[1].address), (None, Some("fd00::1".parse().unwrap())));
    }

    #[test]
    fn of_too_many_the_newest_are_kept() {
        let peers = (1..=600).map(|at| told(80, 1, "10.0.0.1", at)).collect();
        let read = read(agent::UnauthenticatedPeers { peers });
        assert_eq!(read.len(), MAX_UNAUTHENTICATED_PEERS);
        assert_eq!(read[0].last_seen.as_millisecond(), 600);
    }
}
