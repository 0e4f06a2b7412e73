//! Global's end: a gRPC service that zones connect to.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use ursa_crds::{Kind, Meta, Object, ObjectKey, Spec, ZoneInsightSpec, ZoneSpec};
use ursa_identity::Tokens;
use ursa_index::provided;
use ursa_proto::sync::sync_server::{Sync, SyncServer};
use ursa_proto::sync::{
    Acknowledgement, Delta, FromGlobal, FromZone, GlobalWelcome, IntermediateSigned, SignIntermediate,
    ZoneHello, from_global, from_zone,
};
use ursa_store::{Change, Store};

use crate::engine::Outgoing;
use crate::{ownership, wire};

/// How long a zone may be silent: it pings every second.
pub const SILENCE: Duration = Duration::from_secs(5);
/// Bytes of a message at most: a delta of the largest objects.
pub(crate) const LARGEST_MESSAGE: usize = 512 * 1024 * 1024;
/// The private value that says that an administrator adopted this store.
const ADOPTED: &str = "sync/adopted";

/// What is known of a zone's connection.
#[derive(Clone, Debug, Default)]
pub struct ZoneState {
    /// Whether its stream is open.
    pub connected: bool,
    /// When data came last.
    pub heard_at: Option<Timestamp>,
    /// Version of its control plane.
    pub version: String,
    /// Whether it has acknowledged everything.
    pub settled: bool,
}

/// The service for zones; cheap to clone.
#[derive(Clone, Debug)]
pub struct Global {
    store: Store,
    tokens: Arc<Tokens>,
    zones: Arc<Mutex<HashMap<String, Connected>>>,
}

#[derive(Debug, Default)]
struct Connected {
    state: ZoneState,
    /// Ends the stream when it is dropped: a zone has one stream, the newest.
    stream: Option<oneshot::Sender<()>>,
}

impl Global {
    /// Over this store, admitting zones by tokens.
    pub fn new(store: Store, tokens: Arc<Tokens>) -> Self {
        Self { store, tokens, zones: Arc::default() }
    }

    /// The gRPC service.
    pub fn routes(&self) -> tonic::service::Routes {
        tonic::service::Routes::new(SyncServer::new(self.clone()).max_decoding_message_size(LARGEST_MESSAGE))
    }

    /// Zones that have connected since the start, with their state.
    pub fn zones(&self) -> BTreeMap<String, ZoneState> {
        let zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        zones.iter().map(|(name, zone)| (name.clone(), zone.state.clone())).collect()
    }

    /// An administrator says that this store takes the place of whichever one the zones knew. Zones connect anew, and
    /// then delete what is not here.
    pub async fn adopt(&self) -> Result<(), ursa_store::StoreError> {
        self.store.private_put(ADOPTED, b"yes".to_vec()).await?;
        for zone in self.zones.lock().unwrap_or_else(PoisonError::into_inner).values_mut() {
            zone.stream = None;
        }
        Ok(())
    }

    fn update(&self, zone: &str, change: impl FnOnce(&mut ZoneState)) {
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut zones.entry(zone.to_owned()).or_default().state);
    }

    /// Takes the place of an older stream of the zone; ends when a newer one comes.
    fn enter(&self, zone: &str) -> oneshot::Receiver<()> {
        let (sender, replaced) = oneshot::channel();
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        zones.entry(zone.to_owned()).or_default().stream = Some(sender);
        replaced
    }
}

type Sender = mpsc::Sender<Result<FromGlobal, Status>>;

#[tonic::async_trait]
impl Sync for Global {
    type StreamStream = Pin<Box<dyn futures::Stream<Item = Result<FromGlobal, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<Streaming<FromZone>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let claims = self.tokens.verify_zone(token, Timestamp::now());
        let zone = claims.map_err(|error| Status::unauthenticated(error.to_string()))?.zone;
        let (sender, receiver) = mpsc::channel(4);
        let (global, mut messages) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            let end = match said_hello(&zone, &mut messages).await {
                // Nothing is known of the zone but its name.
                Err(status) => {
                    tracing::warn!(zone, reason = status.message(), "refused the zone's stream");
                    status
                }
                Ok(hello) => {
                    let replaced = global.enter(&zone);
                    let Err(status) = global.serve(&zone, hello, messages, replaced, &sender).await;
                    tracing::info!(zone, reason = status.message(), "zone disconnected");
                    global.left(&zone).await;
                    status
                }
            };
            // A zone that does not read may never know why.
            let _ = sender.send_timeout(Err(end), SILENCE).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// The first message, if it is of the zone that the token is for.
async fn said_hello(zone: &str, messages: &mut Streaming<FromZone>) -> Result<ZoneHello, Status> {
    let first = tokio::time::timeout(SILENCE, messages.message()).await;
    let Ok(Ok(Some(FromZone { message: Some(from_zone::Message::Hello(hello)) }))) = first else {
        return Err(Status::invalid_argument("the first message must be ZoneHello"));
    };
    if hello.zone == zone {
        Ok(hello)
    } else {
        Err(Status::permission_denied(format!("the token is for zone {zone}, not {}", hello.zone)))
    }
}

impl Global {
    async fn serve(
        &self,
        zone: &str,
        hello: ZoneHello,
        mut messages: Streaming<FromZone>,
        mut replaced: oneshot::Receiver<()>,
        sender: &Sender,
    ) -> Result<Infallible, Status> {
        self.register(zone).await?;
        self.update(zone, |state| {
            *state = ZoneState { connected: true, version: hello.version.clone(), ..ZoneState::default() };
        });
        tracing::info!(zone, version = hello.version, "zone connected");
        self.observe(zone, |insight| {
            insight.connected = true;
            insight.connected_at = Some(Timestamp::now());
            insight.version.clone_from(&hello.version);
        })
        .await;
        let (mut stream, mut changes) = self.open(zone, hello);
        let copies = ownership::select(&self.store, |object| ownership::goes_up(object, zone));
        let welcome = GlobalWelcome {
            epoch: self.store.epoch().to_owned(),
            adopted: self.store.private(ADOPTED).is_some(),
            held: wire::held(&copies),
        };
        stream.send(sender, from_global::Message::Welcome(welcome)).await?;
        let mut heard = Instant::now();
        loop {
            if let Some(delta) = stream.outgoing.next_delta() {
                stream.send(sender, from_global::Message::Delta(wire::delta(delta))).await?;
            }
            self.update(zone, |state| state.settled = stream.outgoing.is_settled());
            tokio::select! {
                _ = &mut replaced => return Err(Status::aborted("a newer stream of the zone has taken over")),
                () = tokio::time::sleep_until(heard + SILENCE) => {
                    return Err(Status::deadline_exceeded("the zone has been silent for too long"));
                }
                changed = changes.next() => {
                    let changed = changed.ok_or_else(|| Status::unavailable("the control plane is stopping"))?;
                    for change in &changed {
                        stream.change(change);
                    }
                }
                message = messages.next() => {
                    let Some(message) = message else { return Err(Status::cancelled("the zone closed the stream")) };
                    heard = Instant::now();
                    self.update(zone, |state| state.heard_at = Some(Timestamp::now()));
                    match message?.message {
                        Some(from_zone::Message::Ping(ping)) => stream.send(sender, from_global::Message::Pong(ping)).await?,
                        Some(from_zone::Message::Acknowledgement(ack)) => stream.outgoing.acknowledged(ack.sequence),
                        Some(from_zone::Message::Delta(delta)) => {
                            let acknowledgement = self.take(zone, delta).await?;
                            stream.send(sender, from_global::Message::Acknowledgement(acknowledgement)).await?;
                        }
                        Some(from_zone::Message::SignIntermediate(request)) => {
                            let answer = self.sign_intermediate(zone, &request);
                            stream.send(sender, from_global::Message::IntermediateSigned(answer)).await?;
                        }
                        Some(from_zone::Message::Hello(_)) | None => {
                            return Err(Status::invalid_argument("unexpected message"));
                        }
                    }
                }
            }
        }
    }

    /// A stream of the zone has ended.
    async fn left(&self, zone: &str) {
        let newer = {
            let zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
            let stream = zones.get(zone).and_then(|known| known.stream.as_ref());
            stream.is_some_and(|stream| !stream.is_closed())
        };
        if !newer {
            self.update(zone, |state| state.connected = false);
            self.observe(zone, |insight| {
                insight.connected = false;
                insight.disconnected_at = Some(Timestamp::now());
            })
            .await;
        }
    }

    /// A zone that connects for the first time appears among the zones.
    async fn register(&self, zone: &str) -> Result<(), Status> {
        let object = Object {
            meta: Meta { name: zone.to_owned(), ..Meta::default() },
            spec: Spec::Zone(ZoneSpec::default()),
        };
        if self.store.get(&object.key()).is_none() {
            self.store.put(object, Some(0)).await.map_err(|error| Status::unavailable(error.to_string()))?;
        }
        Ok(())
    }

    /// Writes what was observed of a zone. It is worth a warning if that fails, and no zone's connection.
    async fn observe(&self, zone: &str, change: impl FnOnce(&mut ZoneInsightSpec)) {
        let meta = Meta { name: zone.to_owned(), ..Meta::default() };
        let mut object = Object { meta, spec: Spec::ZoneInsight(ZoneInsightSpec::default()) };
        if let Some(known) = self.store.get(&object.key()) {
            object.spec = known.spec.clone();
        }
        if let Spec::ZoneInsight(spec) = &mut object.spec {
            change(spec);
        }
        if let Err(error) = self.store.put(object, None).await {
            tracing::warn!(zone, %error, "cannot store what was observed of the zone");
        }
    }

    /// At the start: no zone is connected yet.
    pub async fn start(&self) {
        for object in self.store.list(Kind::ZoneInsight) {
            self.observe(&object.meta.name, |insight| insight.connected = false).await;
        }
    }

    /// What the zone lacks, and the changes from then on.
    fn open(&self, zone: &str, hello: ZoneHello) -> (ZoneStream, ursa_store::Watch) {
        let (objects, changes) = self.store.watch();
        let enabled = |zone: &str| ownership::is_enabled(&self.store, zone);
        let desired = objects.into_iter().filter(|object| ownership::goes_down(object, zone, enabled));
        let desired = desired.map(|object| (object.key(), (wire::version(&object), object))).collect();
        let stream = ZoneStream {
            zone: zone.to_owned(),
            store: self.store.clone(),
            outgoing: Outgoing::new(wire::read_held(hello.held).collect(), desired),
        };
        (stream, changes)
    }

    /// For the zone of the stream, whatever the request says.
    fn sign_intermediate(&self, zone: &str, request: &SignIntermediate) -> IntermediateSigned {
        let SignIntermediate { id, mesh, backend, csr } = request;
        let signed = provided::sign_intermediate(&self.store, zone, mesh, backend, csr);
        let (chain, reason) = match signed {
            Ok(chain) => (chain, String::new()),
            Err(reason) => {
                tracing::warn!(zone, mesh, backend, reason, "signed no intermediate");
                (String::new(), reason)
            }
        };
        IntermediateSigned { id: *id, chain, reason }
    }

    /// Stores what a zone says of itself; the stream ends if it says anything else.
    async fn take(&self, zone: &str, delta: Delta) -> Result<Acknowledgement, Status> {
        let refuse = |reason: String| {
            tracing::warn!(zone, reason, "refused what the zone sent");
            Status::permission_denied(reason)
        };
        let mut objects = Vec::with_capacity(delta.upserts.len());
        for item in &delta.upserts {
            let object = wire::read_object(item).map_err(refuse)?;
            ownership::check_from_zone(&object, zone).map_err(refuse)?;
            objects.push(object);
        }
        let mut removals = Vec::with_capacity(delta.removals.len());
        for key in delta.removals {
            let Some(key) = wire::read_key(key) else { continue };
            let Some(object) = self.store.get(&key) else { continue };
            ownership::check_from_zone(&object, zone).map_err(refuse)?;
            removals.push(key);
        }
        store_all(&self.store, objects, removals)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Acknowledgement { sequence: delta.sequence })
    }
}

/// Stores copies and removes others.
pub(crate) async fn store_all(
    store: &Store,
    objects: Vec<Object>,
    removals: Vec<ObjectKey>,
) -> Result<(), ursa_store::StoreError> {
    // In order: a mesh comes before what is in it. They share transactions all the same.
    let puts = objects.into_iter().map(|object| store.put_copy(object));
    futures::future::try_join_all(puts).await?;
    for key in removals {
        match store.delete(&key, None).await {
            Ok(_) | Err(ursa_store::StoreError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

struct ZoneStream {
    zone: String,
    store: Store,
    outgoing: Outgoing<ObjectKey, Arc<Object>>,
}

impl ZoneStream {
    fn change(&mut self, change: &Change) {
        if change.key.kind == Kind::Zone {
            // What another zone offers comes or goes with its being enabled.
            let of_zone = |object: &Object| ownership::owning_zone(object) == Some(&change.key.name);
            for object in ownership::select(&self.store, of_zone) {
                self.set(object.key(), Some(object));
            }
        } else {
            self.set(change.key.clone(), change.object.clone());
        }
    }

    fn set(&mut self, key: ObjectKey, object: Option<Arc<Object>>) {
        let enabled = |zone: &str| ownership::is_enabled(&self.store, zone);
        let object = object.filter(|object| ownership::goes_down(object, &self.zone, enabled));
        self.outgoing.change(key, object.map(|object| (wire::version(&object), object)));
    }

    async fn send(&self, sender: &Sender, message: from_global::Message) -> Result<(), Status> {
        let sent = sender.send_timeout(Ok(FromGlobal { message: Some(message) }), SILENCE).await;
        sent.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => Status::deadline_exceeded("the zone has not read for too long"),
            SendTimeoutError::Closed(_) => Status::cancelled("the zone closed the stream"),
        })
    }
}
