//! The session: who the agent is, what the control plane wants it to have, whether the application is ready, and whom the
//! proxy let in without an identity of the mesh.
//!
//! Invariant: Hello comes first, then readiness and peers as they are, then only changes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::error;
use ursa_envoy::Transport;
use ursa_proto::agent::agent_client::AgentClient;
use ursa_proto::agent::{
    Draining, FromAgent, Hello, Identity, InboundReadiness, Name, PeerTransport, Readiness as WireReadiness,
    ToAgent, UnauthenticatedPeer, UnauthenticatedPeers, Welcome, from_agent, to_agent,
};

use crate::certificates::renewal::Announced;
use crate::cp::{End, Link};
use crate::dns::{Addresses, Names};
use crate::peers::{Peer, PeerCounter, Seen};
use crate::probe::Readiness;

/// How long the control plane may take to welcome an agent.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);

/// Between two times that changed peers are told.
const PEERS_EVERY: Duration = Duration::from_secs(5);

/// An accepted session.
pub(super) struct Session {
    /// What the control plane calls this proxy.
    pub(super) node_id: String,
    /// The zone.
    pub(super) zone: String,
    takes_peers: bool,
    // Few messages, all of our making.
    outgoing: mpsc::UnboundedSender<FromAgent>,
    incoming: Streaming<ToAgent>,
}

impl Session {
    /// Says hello; returns when welcome.
    pub(super) async fn open(link: &Link, hello: Hello) -> Result<Self, End> {
        let (outgoing, receiver) = mpsc::unbounded_channel();
        send(&outgoing, from_agent::Message::Hello(hello));
        let request = link.authorize(UnboundedReceiverStream::new(receiver))?;
        let mut client = AgentClient::new(link.channel());
        let open = async {
            let mut incoming = client.session(request).await?.into_inner();
            let first = incoming.message().await?.and_then(|message| message.message);
            Ok::<_, Status>((incoming, first))
        };
        let (incoming, first) = timeout(WELCOME_WITHIN, open)
            .await
            .map_err(|_| Status::deadline_exceeded("the control plane does not answer"))??;
        match first {
            Some(to_agent::Message::Welcome(welcome)) => {
                let Welcome { node_id, zone, takes_unauthenticated_peers: takes_peers } = welcome;
                Ok(Self { node_id, zone, takes_peers, outgoing, incoming })
            }
            None => Err(End::Closed),
            Some(to_agent::Message::Identity(_) | to_agent::Message::Names(_)) => {
                Err(Status::internal("the control plane's first message is no Welcome").into())
            }
        }
    }

    /// Runs the session; returns why it ended.
    pub(super) async fn run(
        &mut self,
        readiness: &mut watch::Receiver<Readiness>,
        peers: &mut watch::Receiver<PeerCounter>,
        announced: &watch::Sender<Option<Announced>>,
        names: &watch::Sender<Arc<Names>>,
        draining: &CancellationToken,
    ) -> End {
        self.tell(&readiness.borrow_and_update().clone());
        self.tell_peers(&peers.borrow_and_update());
        let mut drains = false;
        // When changed peers are to be told; `None`: nothing has changed.
        let (mut peers_told, mut peers_due) = (Instant::now(), None);
        loop {
            tokio::select! {
                message = self.incoming.message() => match message {
                    // Whatever the end is like: the control plane has read that the proxy drains.
                    Ok(None) | Err(_) if drains => return End::Drained,
                    Ok(None) => return End::Closed,
                    Err(status) => return status.into(),
                    Ok(Some(message)) => heard(message, announced, names),
                },
                Ok(()) = readiness.changed() => {
                    let readiness = readiness.borrow_and_update().clone();
                    self.tell(&readiness);
                }
                Ok(()) = peers.changed(), if self.takes_peers && peers_due.is_none() => {
                    peers_due = Some(peers_told + PEERS_EVERY);
                }
                () = sleep_until(peers_due.unwrap_or(peers_told)), if peers_due.is_some() => {
                    (peers_told, peers_due) = (Instant::now(), None);
                    self.tell_peers(&peers.borrow_and_update());
                }
                () = draining.cancelled(), if !drains => {
                    drains = true;
                    send(&self.outgoing, from_agent::Message::Draining(Draining {}));
                }
            }
        }
    }

    fn tell(&self, readiness: &Readiness) {
        let inbounds = readiness
            .iter()
            .map(|(port, ready)| InboundReadiness { port: (*port).into(), ready: *ready })
            .collect();
        send(&self.outgoing, from_agent::Message::Readiness(WireReadiness { inbounds }));
    }

    fn tell_peers(&self, counter: &PeerCounter) {
        if self.takes_peers {
            let peers = counter.iter().map(peer).collect();
            send(&self.outgoing, from_agent::Message::UnauthenticatedPeers(UnauthenticatedPeers { peers }));
        }
    }
}

fn peer((peer, seen): (&Peer, &Seen)) -> UnauthenticatedPeer {
    let transport = match peer.transport {
        Transport::Plaintext => PeerTransport::Plaintext,
        Transport::Tls => PeerTransport::Tls,
    };
    let last_seen = seen.last.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnauthenticatedPeer {
        port: peer.port.into(),
        transport: transport.into(),
        address: peer.address.map(|address| address.to_string()).unwrap_or_default(),
        count: seen.count,
        last_seen_ms: last_seen.as_millis().try_into().unwrap_or(u64::MAX),
    }
}

/// A stream that is gone is noticed by its other direction.
fn send(outgoing: &mpsc::UnboundedSender<FromAgent>, message: from_agent::Message) {
    let _ = outgoing.send(FromAgent { message: Some(message) });
}

fn heard(message: ToAgent, announced: &watch::Sender<Option<Announced>>, names: &watch::Sender<Arc<Names>>) {
    match message.message {
        Some(to_agent::Message::Identity(identity)) => match parse(identity) {
            Ok(identity) => {
                announced.send_if_modified(|known| {
                    let changed = known.as_ref() != Some(&identity);
                    *known = Some(identity);
                    changed
                });
            }
            Err(error) => {
                error!(%error, "the control plane announced an identity that is none; keeping the last");
            }
        },
        Some(to_agent::Message::Names(told)) => {
            names.send_replace(Arc::new(Names::new(told.names.into_iter().map(name))));
        }
        // A second Welcome says nothing new; what is not known comes from a newer control plane.
        Some(to_agent::Message::Welcome(_)) | None => {}
    }
}

/// An address that is none is left out: the rest of the names still helps.
fn name(Name { name, addresses }: Name) -> (String, Addresses) {
    let mut known = Addresses::default();
    for address in addresses {
        match address.parse() {
            Ok(IpAddr::V4(address)) => known.v4.push(address),
            Ok(IpAddr::V6(address)) => known.v6.push(address),
            Err(_) => error!(name, address, "the control plane gave a name an address that is none"),
        }
    }
    (name, known)
}

fn parse(
    Identity { spiffe_id, signer, lifetime_ms, token_id }: Identity,
) -> Result<Announced, ursa_model::ParseSpiffeIdError> {
    if spiffe_id.is_empty() {
        return Ok(Announced::Off);
    }
    let spiffe_id = Box::new(spiffe_id.parse()?);
    let (lifetime, heard) = (Duration::from_millis(lifetime_ms), SystemTime::now());
    let token_id = Some(token_id).filter(|id| !id.is_empty());
    Ok(Announced::Identity { spiffe_id, signer, lifetime, token_id, heard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_identity_means_off_and_a_broken_one_changes_nothing() {
        let announced = watch::Sender::new(None);
        let names = watch::Sender::new(Arc::default());
        let say = |spiffe_id: &str| {
            let identity = Identity {
                spiffe_id: spiffe_id.into(),
                signer: "ca".into(),
                lifetime_ms: 60_000,
                token_id: String::new(),
            };
            heard(ToAgent { message: Some(to_agent::Message::Identity(identity)) }, &announced, &names);
        };
        say("");
        assert_eq!(*announced.borrow(), Some(Announced::Off));
        say("spiffe://east.default.ursa/service/web/ns/-/tags/-/proxy/web-1");
        assert!(
            matches!(&*announced.borrow(), Some(Announced::Identity { lifetime, .. }) if lifetime.as_secs() == 60)
        );
        say("spiffe://example.org/anything");
        assert!(matches!(&*announced.borrow(), Some(Announced::Identity { .. })));
    }
}
