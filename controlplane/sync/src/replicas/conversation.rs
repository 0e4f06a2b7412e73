//! What both ends of a stream do once they have met: say what is new, and take what the other says.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tonic::{Status, Streaming};
use ursa_crds::schema::{self, Party};
use ursa_index::{Hearing, Index, News};
use ursa_model::ProxyId;
use ursa_proto::replicas::{Acknowledgement, Delta, Held, Hello, Insight, Message, Ping, message};

use super::{Replicas, wire};
use crate::engine::Outgoing;
use crate::global::SILENCE;
use crate::meeting;

const PING_EVERY: Duration = Duration::from_secs(1);
/// Messages that wait for the network: a delta, an acknowledgement and an echo at most are due at a time.
pub(super) const BUFFER: usize = 4;

pub(super) type Out = mpsc::Sender<Result<Message, Status>>;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("{0}")]
    Connect(#[from] ursa_proto::ConnectError),
    #[error("no token can be made: {0}")]
    Token(#[from] ursa_identity::TokenError),
    #[error("{}", .0.message())]
    Status(#[from] Status),
    #[error("the other replica sent nothing for {SILENCE:?}")]
    Silent,
    #[error("the other replica read nothing for {SILENCE:?}")]
    Unread,
    #[error("the other replica closed the stream")]
    Closed,
    #[error("the other replica sent what it may not: {0}")]
    Refused(String),
    #[error("{0}")]
    Incompatible(String),
    #[error("a newer stream of the replica has taken over")]
    Replaced,
}

/// One end of a stream.
pub(super) struct Conversation<'a> {
    index: &'a Index,
    /// The identity of the other end.
    other: &'a str,
    hearing: Hearing,
    out: &'a Out,
    /// What both speak.
    schema: u32,
}

/// Says who speaks, and what it holds of the other's.
pub(super) async fn greet(own: &Replicas, hearing: &Hearing, out: &Out) -> Result<(), End> {
    let held = hearing.held().into_iter();
    let held = held.map(|(proxy, version)| Held { proxy: Some(wire::proxy(&proxy)), version });
    let Party { version, schemas, .. } = own.party();
    let hello = Hello {
        replica: own.identity.clone(),
        held: held.collect(),
        schema: schemas.newest,
        oldest_schema: schemas.oldest,
        version,
    };
    send(out, message::Message::Hello(hello)).await
}

/// The schema to use with one that said this.
pub(super) fn agree(own: &Replicas, hello: &Hello) -> Result<u32, End> {
    schema::agree(&own.party(), &meeting::replica(hello)).map_err(End::Incompatible)
}

impl<'a> Conversation<'a> {
    /// With the other replica, which is heard.
    pub(super) fn with(
        index: &'a Index,
        other: &'a str,
        hearing: Hearing,
        out: &'a Out,
        schema: u32,
    ) -> Self {
        Self { index, other, hearing, out, schema }
    }

    /// Goes on until the stream ends. `held`: what the other said that it holds. One of the two pings.
    pub(super) async fn run(
        self,
        held: Vec<Held>,
        mut incoming: Streaming<Message>,
        pings: bool,
    ) -> Result<Infallible, End> {
        let (proxies, mut news) = self.index.insights().follow_for_replica(self.other);
        let mut outgoing = self.outgoing(held, proxies);
        let mut ticks = interval(PING_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut nonce, mut heard) = (0, Instant::now());
        loop {
            if let Some(delta) = outgoing.next_delta() {
                send(self.out, message::Message::Delta(wire::delta(delta))).await?;
            }
            tokio::select! {
                () = tokio::time::sleep_until(heard + SILENCE) => return Err(End::Silent),
                _ = ticks.tick(), if pings => {
                    nonce += 1;
                    send(self.out, message::Message::Ping(Ping { nonce })).await?;
                }
                // While something is on its way, what is new waits where only the latest of each proxy counts.
                changes = self.changes(&mut news), if outgoing.is_settled() => outgoing.change_all(changes),
                message = incoming.next() => {
                    heard = Instant::now();
                    match message.ok_or(End::Closed)??.message {
                        Some(message::Message::Ping(ping)) => send(self.out, message::Message::Pong(ping)).await?,
                        Some(message::Message::Pong(_)) => {}
                        Some(message::Message::Acknowledgement(ack)) => outgoing.acknowledged(ack.sequence),
                        Some(message::Message::Delta(delta)) => {
                            let acknowledgement = self.take(delta)?;
                            send(self.out, message::Message::Acknowledgement(acknowledgement)).await?;
                        }
                        Some(message::Message::Hello(_)) | None => {
                            return Err(End::Refused("an unexpected message".into()));
                        }
                    }
                }
            }
        }
    }

    fn outgoing(&self, held: Vec<Held>, proxies: Vec<ProxyId>) -> Outgoing<ProxyId, Insight> {
        let held = held.into_iter().filter_map(|held| Some((wire::read_proxy(held.proxy?), held.version)));
        let desired = proxies.into_iter().filter_map(|proxy| {
            let summary = self.summary(&proxy)?;
            Some((proxy, summary))
        });
        Outgoing::new(held.collect::<BTreeMap<_, _>>(), desired.collect())
    }

    /// What the other is to know of a proxy, with its version.
    fn summary(&self, proxy: &ProxyId) -> Option<(String, Insight)> {
        // To one that does not know it, it would be a proxy without a name.
        if proxy.is_mesh_itself() && self.schema < schema::REPLICAS_TELL_PROGRESS {
            return None;
        }
        self.index
            .insights()
            .for_replica(self.other, proxy)
            .map(|insight| wire::insight(&insight, self.schema))
    }

    async fn changes(&self, news: &mut News) -> Vec<(ProxyId, Option<(String, Insight)>)> {
        let with_summary = |proxy: ProxyId| {
            let summary = self.summary(&proxy);
            (proxy, summary)
        };
        news.next().await.into_iter().map(with_summary).collect()
    }

    fn take(&self, delta: Delta) -> Result<Acknowledgement, End> {
        let upserts: Result<_, String> = delta.upserts.into_iter().map(wire::read_summary).collect();
        let removals = delta.removals.into_iter().map(wire::read_proxy).collect();
        if self.hearing.take(upserts.map_err(End::Refused)?, removals) {
            Ok(Acknowledgement { sequence: delta.sequence })
        } else {
            Err(End::Replaced)
        }
    }
}

/// The first message of the other end.
pub(super) async fn hello(incoming: &mut Streaming<Message>) -> Result<Hello, End> {
    let first = timeout(SILENCE, incoming.message()).await.map_err(|_| End::Silent)??;
    match first.ok_or(End::Closed)?.message {
        Some(message::Message::Hello(hello)) => Ok(hello),
        _ => Err(End::Refused("the first message must be Hello".into())),
    }
}

async fn send(out: &Out, message: message::Message) -> Result<(), End> {
    let sent = out.send_timeout(Ok(Message { message: Some(message) }), SILENCE).await;
    sent.map_err(|error| match error {
        SendTimeoutError::Timeout(_) => End::Unread,
        SendTimeoutError::Closed(_) => End::Closed,
    })
}
