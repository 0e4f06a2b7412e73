//! A zone's end: keeps one stream to global open, and goes on alone while there is none. Of several replicas that share a
//! store the one that leads has the stream; the others see in the store what global sends.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Streaming};
use ursa_crds::schema::{self, Schemas};
use ursa_crds::{Object, ObjectKey};
use ursa_index::SigningRequest;
use ursa_proto::sync::sync_client::SyncClient;
use ursa_proto::sync::{
    Acknowledgement, Delta, FromGlobal, FromZone, GlobalWelcome, IntermediateSigned, Ping, SignIntermediate,
    ZoneHello, from_global, from_zone,
};
use ursa_store::{Change, Store};

use crate::engine::{Incoming, Outgoing, Verdict};
use crate::global::{LARGEST_MESSAGE, SILENCE, store_all};
use crate::{meeting, ownership, wire};

const PING_EVERY: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(3);
/// The private value that names the store that the copies came from.
const EPOCH: &str = "sync/global-epoch";

/// How a zone reaches global.
#[derive(Clone, Debug)]
pub struct ZoneConfig {
    /// The zone.
    pub zone: String,
    /// `https://HOST:5685`.
    pub global: String,
    /// The CA file that global's certificate is trusted by.
    pub ca_file: PathBuf,
    /// The file with the zone's token; read again at each connect.
    pub token_file: PathBuf,
    /// What it speaks.
    pub schemas: Schemas,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("cannot read the zone token in {path}: {source}")]
    Token { path: PathBuf, source: std::io::Error },
    #[error("the zone token in {0} is not a token")]
    NotAToken(PathBuf),
    #[error("{0}")]
    Connect(#[from] ursa_proto::ConnectError),
    #[error("{}", .0.message())]
    Status(#[from] tonic::Status),
    #[error("global sent nothing for {SILENCE:?}")]
    Silent,
    #[error("global read nothing for {SILENCE:?}")]
    Unread,
    #[error("global closed the stream")]
    Closed,
    #[error("global sent what it may not: {0}")]
    Refused(String),
    #[error("{0}")]
    Incompatible(String),
    #[error(transparent)]
    Store(#[from] ursa_store::StoreError),
}

impl End {
    fn cause(&self) -> Cause {
        match self {
            Self::Incompatible(_) => Cause::Incompatible,
            Self::Status(status) => match status.code() {
                // So says a global that speaks no schema of this zone's.
                Code::FailedPrecondition => Cause::Incompatible,
                Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument => Cause::Refused,
                _ => Cause::Unreachable,
            },
            Self::Refused(_) => Cause::Refused,
            Self::Token { .. }
            | Self::NotAToken(_)
            | Self::Connect(_)
            | Self::Silent
            | Self::Unread
            | Self::Closed
            | Self::Store(_) => Cause::Unreachable,
        }
    }
}

/// Why a stream is not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Global is out of reach.
    Unreachable,
    /// Global answers, and refuses or is refused.
    Refused,
    /// The two have no schema in common.
    Incompatible,
}

/// How it stands with the stream to global.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// It was not tried yet, or another replica has the stream.
    #[default]
    Idle,
    /// It is open.
    Connected {
        /// Whether the zone takes what global sends; not if global has another store than before.
        followed: bool,
    },
    /// It is not open, and is tried again and again.
    Lost {
        /// What is wrong with it.
        cause: Cause,
        /// Why the last try failed.
        reason: String,
    },
}

impl Link {
    /// Whether the stream is open.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }
}

/// How it stands with the stream to global, at each time.
pub type Connected = watch::Receiver<Link>;

/// Keeps the zone in step with global while this replica leads, until the store ends; says on the returned channel how it
/// stands. What comes out of `signing` is asked of global.
pub fn start(
    config: ZoneConfig,
    store: Store,
    mut signing: mpsc::UnboundedReceiver<SigningRequest>,
    mut leads: watch::Receiver<bool>,
) -> Connected {
    let (sender, connected) = watch::channel(Link::Idle);
    tokio::spawn(async move {
        loop {
            if leads.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            let zone = Zone { config: &config, store: &store, link: &sender };
            tokio::select! {
                () = zone.keep_connected(&mut signing) => {}
                // If nobody can say otherwise any more, it stays as it is.
                Ok(_) = leads.wait_for(|leads| !leads) => tracing::info!("another replica keeps the stream to global"),
            }
            sender.send_replace(Link::Idle);
        }
    });
    connected
}

struct Zone<'a> {
    config: &'a ZoneConfig,
    store: &'a Store,
    link: &'a watch::Sender<Link>,
}

/// Requests that global has not answered yet, by id.
#[derive(Default)]
struct SigningRequests {
    last: u64,
    open: HashMap<u64, oneshot::Sender<Result<String, String>>>,
}

impl SigningRequests {
    fn ask(&mut self, request: SigningRequest) -> from_zone::Message {
        let SigningRequest { mesh, backend, csr, reply } = request;
        self.last += 1;
        self.open.insert(self.last, reply);
        from_zone::Message::SignIntermediate(SignIntermediate { id: self.last, mesh, backend, csr })
    }

    fn answer(&mut self, IntermediateSigned { id, chain, reason }: IntermediateSigned) {
        if let Some(reply) = self.open.remove(&id) {
            // Whoever asked and does not wait any more needs no answer.
            let _ = reply.send(if reason.is_empty() { Ok(chain) } else { Err(reason) });
        }
    }
}

type Out = mpsc::Sender<FromZone>;

impl Zone<'_> {
    async fn keep_connected(&self, signing: &mut mpsc::UnboundedReceiver<SigningRequest>) {
        let mut retry = FIRST_RETRY;
        loop {
            let end = self.run(signing).await;
            let lost = Link::Lost { cause: end.cause(), reason: end.to_string() };
            let before = self.link.send_replace(lost.clone());
            if before.is_connected() {
                retry = FIRST_RETRY;
            }
            if before != lost {
                tracing::warn!(global = self.config.global, reason = %end, "not connected to global; the zone goes on with what it has, and tries again");
            }
            // Jitter, so that zones do not come back all at once.
            let wait = retry.mul_f64(rand::random_range(0.5..1.0));
            tokio::time::sleep(wait).await;
            retry = (retry * 2).min(LONGEST_RETRY);
        }
    }

    async fn run(&self, signing: &mut mpsc::UnboundedReceiver<SigningRequest>) -> End {
        match self.stream(signing).await {
            Ok(()) => End::Closed,
            Err(end) => end,
        }
    }

    async fn stream(&self, signing: &mut mpsc::UnboundedReceiver<SigningRequest>) -> Result<(), End> {
        let (out, messages) = mpsc::channel(8);
        let mut incoming = self.connect(ReceiverStream::new(messages)).await?;
        // Copies, and own objects as they are now: the watch begins before the hello says what is held.
        let (objects, mut changes) = self.store.watch();
        let copies: Vec<Arc<Object>> =
            objects.iter().filter(|object| ownership::is_copy(object, &self.config.zone)).cloned().collect();
        let hello = ZoneHello {
            zone: self.config.zone.clone(),
            version: meeting::VERSION.to_owned(),
            // Global says next what both speak. What only one knows of a copy is not there in the one that came from it.
            held: wire::held(&copies, self.config.schemas.newest),
            schema: self.config.schemas.newest,
            oldest_schema: self.config.schemas.oldest,
        };
        send(&out, from_zone::Message::Hello(hello)).await?;
        let first = timeout(SILENCE, incoming.message()).await.map_err(|_| End::Silent)??;
        let Some(FromGlobal { message: Some(from_global::Message::Welcome(welcome)) }) = first else {
            return Err(End::Refused("the first message must be GlobalWelcome".into()));
        };
        let own = meeting::own(&format!("zone {}", self.config.zone), self.config.schemas);
        let schema = schema::agree(&own, &meeting::global(&welcome)).map_err(End::Incompatible)?;
        let verdict = self.meet(&welcome).await?;
        self.link.send_replace(Link::Connected { followed: verdict == Verdict::Known });
        tracing::info!(
            global = self.config.global,
            epoch = welcome.epoch,
            schema,
            ?verdict,
            "connected to global"
        );
        let own = objects.iter().filter(|object| ownership::goes_up(object, &self.config.zone));
        let own = own.filter(|object| schema::knows(object.kind(), schema));
        let own = own.map(|object| (object.key(), (wire::version(object, schema), object.clone()))).collect();
        let mut outgoing: Outgoing<ObjectKey, Arc<Object>> =
            Outgoing::new(wire::read_held(welcome.held, schema).collect(), own);

        let mut pings = interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut nonce, mut heard) = (0, Instant::now());
        // Those that are open when the stream ends are dropped, and so asked again.
        let mut open = SigningRequests::default();
        loop {
            if let Some(delta) = outgoing.next_delta() {
                send(&out, from_zone::Message::Delta(wire::delta(delta, schema))).await?;
            }
            tokio::select! {
                () = tokio::time::sleep_until(heard + SILENCE) => return Err(End::Silent),
                _ = pings.tick() => {
                    nonce += 1;
                    send(&out, from_zone::Message::Ping(Ping { nonce })).await?;
                }
                Some(request) = signing.recv(), if verdict != Verdict::Foreign => {
                    // Another replica may have got it in the meantime.
                    if request.reply.is_closed() {
                        continue;
                    }
                    send(&out, open.ask(request)).await?;
                }
                changed = changes.next() => {
                    for change in changed.ok_or(End::Closed)? {
                        self.tell(&mut outgoing, change, schema);
                    }
                }
                message = incoming.next() => {
                    heard = Instant::now();
                    match message.ok_or(End::Closed)??.message {
                        Some(from_global::Message::Pong(_)) => {}
                        Some(from_global::Message::IntermediateSigned(answer)) => open.answer(answer),
                        Some(from_global::Message::Acknowledgement(ack)) => outgoing.acknowledged(ack.sequence),
                        // Unanswered, so that global does not believe that it is followed.
                        Some(from_global::Message::Delta(_)) if verdict == Verdict::Foreign => {}
                        Some(from_global::Message::Delta(delta)) => {
                            let acknowledgement = self.take(delta, schema).await?;
                            send(&out, from_zone::Message::Acknowledgement(acknowledgement)).await?;
                        }
                        Some(from_global::Message::Welcome(_)) | None => {
                            return Err(End::Refused("an unexpected message".into()));
                        }
                    }
                }
            }
        }
    }

    async fn connect(&self, messages: ReceiverStream<FromZone>) -> Result<Streaming<FromGlobal>, End> {
        let path = &self.config.token_file;
        let token =
            std::fs::read_to_string(path).map_err(|source| End::Token { path: path.clone(), source })?;
        let mut header = MetadataValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| End::NotAToken(path.clone()))?;
        header.set_sensitive(true);
        let channel = ursa_proto::connect(&self.config.global, &self.config.ca_file).await?;
        let mut request = Request::new(messages);
        request.metadata_mut().insert("authorization", header);
        let mut client = SyncClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE);
        Ok(client.stream(request).await?.into_inner())
    }

    /// Whether global is the one that the copies came from.
    async fn meet(&self, welcome: &GlobalWelcome) -> Result<Verdict, End> {
        let known = self.store.private(EPOCH).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let mut incoming = Incoming::new(known.clone());
        let verdict = incoming.meet(&welcome.epoch, welcome.adopted);
        if verdict == Verdict::Foreign {
            tracing::warn!(
                known,
                epoch = welcome.epoch,
                "global has another store than before: nothing changes on its word until it is adopted there (ursactl adopt)"
            );
        } else if known.as_deref() != Some(&welcome.epoch) {
            self.store.private_put(EPOCH, welcome.epoch.clone().into_bytes()).await?;
        }
        Ok(verdict)
    }

    /// Tells global of a change of the zone's own.
    fn tell(&self, outgoing: &mut Outgoing<ObjectKey, Arc<Object>>, change: Change, schema: u32) {
        let Change { key, object, .. } = change;
        if !schema::knows(key.kind, schema) {
            return;
        }
        if let Some(object) = object.filter(|object| ownership::goes_up(object, &self.config.zone)) {
            outgoing.change(key, Some((wire::version(&object, schema), object)));
        } else if ownership::is_sent_up(key.kind) && is_own_name(&key, &self.config.zone) {
            // Global ignores the removal of what it does not hold of this zone.
            outgoing.change(key, None);
        }
    }

    /// Stores what global sends; the stream ends if it is not global's to send.
    async fn take(&self, delta: Delta, schema: u32) -> Result<Acknowledgement, End> {
        let mut objects = Vec::with_capacity(delta.upserts.len());
        for item in &delta.upserts {
            let object = wire::read_object(item, schema).map_err(End::Refused)?;
            ownership::check_from_global(&object, &self.config.zone).map_err(End::Refused)?;
            objects.push(object);
        }
        let removals = delta.removals.into_iter().filter_map(|key| wire::read_key(key, schema));
        let is_copy = |object: &Object| ownership::is_copy(object, &self.config.zone);
        let removals = removals.filter(|key| self.store.get(key).is_some_and(|object| is_copy(&object)));
        store_all(self.store, objects, removals.collect()).await?;
        Ok(Acknowledgement { sequence: delta.sequence })
    }
}

/// Whether the name is one that the zone gives: its own, or below it.
fn is_own_name(key: &ObjectKey, zone: &str) -> bool {
    key.name.strip_prefix(zone).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

async fn send(out: &Out, message: from_zone::Message) -> Result<(), End> {
    let sent = out.send_timeout(FromZone { message: Some(message) }, SILENCE).await;
    sent.map_err(|error| match error {
        SendTimeoutError::Timeout(_) => End::Unread,
        SendTimeoutError::Closed(_) => End::Closed,
    })
}
