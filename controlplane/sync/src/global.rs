//! Global's end: a gRPC service that zones connect to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use ursa_crds::schema::{self, Schemas};
use ursa_crds::{Kind, Meta, Object, ObjectKey, Spec, ZoneInsightSpec};
use ursa_identity::{Tokens, Verified, ZoneClaims};
use ursa_index::provided;
use ursa_proto::sync::sync_server::{Sync, SyncServer};
use ursa_proto::sync::{
    Acknowledgement, Delta, FromGlobal, FromZone, GlobalWelcome, IntermediateSigned, SignIntermediate,
    ZoneHello, from_global, from_zone,
};
use ursa_store::names::ADOPTED;
use ursa_store::{Change, Store};

use crate::credential::{deleted, refuses, revoked};
use crate::engine::Outgoing;
use crate::{meeting, ownership, unheard, wire};

/// How long a zone may be silent: it pings every second.
pub const SILENCE: Duration = Duration::from_secs(5);
/// Bytes of a message at most: a delta of the largest objects.
pub(crate) const LARGEST_MESSAGE: usize = 512 * 1024 * 1024;

/// What is known of a zone's connection.
#[derive(Clone, Debug, Default)]
pub struct ZoneState {
    /// Whether its stream is open.
    pub connected: bool,
    /// When data came last.
    pub heard_at: Option<Timestamp>,
    /// Version of its control plane.
    pub version: String,
    /// Since when it has not everything that global has; `None`: it has.
    pub behind_since: Option<Timestamp>,
}

/// The service for zones; cheap to clone.
#[derive(Clone, Debug)]
pub struct Global {
    store: Store,
    tokens: Arc<Tokens>,
    /// Whether this replica leads, and has forgotten what it knew when it led before.
    admits: watch::Receiver<bool>,
    schemas: Schemas,
    zones: Arc<Mutex<HashMap<String, Connected>>>,
    /// Held by whoever changes which zones have not spoken yet.
    hearing: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Connected {
    state: ZoneState,
    /// Ends the stream when it is dropped: a zone has one stream, the newest.
    stream: Option<oneshot::Sender<()>>,
}

impl Global {
    /// Over this store, admitting zones by tokens while this replica leads: all streams are the leader's, which alone knows
    /// what zones observe.
    pub fn new(store: Store, tokens: Arc<Tokens>, leads: watch::Receiver<bool>) -> Self {
        let (sender, admits) = watch::channel(false);
        let global = Self {
            store,
            tokens,
            admits,
            schemas: Schemas::OURS,
            zones: Arc::default(),
            hearing: Arc::default(),
        };
        tokio::spawn(global.clone().follow(leads, sender));
        global
    }

    /// Speaks these schemas, and no others.
    #[must_use]
    pub fn speaking(mut self, schemas: Schemas) -> Self {
        self.schemas = schemas;
        self
    }

    /// With each lead begins and ends what is known of connections.
    async fn follow(self, mut leads: watch::Receiver<bool>, admits: watch::Sender<bool>) {
        while leads.wait_for(|leads| *leads).await.is_ok() {
            self.forget_connections().await;
            admits.send_replace(true);
            tokio::select! {
                // Without a store, nothing goes on.
                () = self.follow_deletions() => return,
                // If nobody can take the lead away any more, it stays.
                Ok(_) = leads.wait_for(|leads| !leads) => {}
            }
            admits.send_replace(false);
            self.zones.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
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

    /// Of a zone that has entered; one that is forgotten stays so, also while its stream is ending.
    fn update(&self, zone: &str, change: impl FnOnce(&mut ZoneState)) {
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = zones.get_mut(zone) {
            change(&mut known.state);
        }
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
        self.leads()?;
        let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let token = self.tokens.verify_zone(token, Timestamp::now());
        let token = token.map_err(|error| Status::unauthenticated(error.to_string()))?;
        self.is_expected(&token)?;
        let zone = token.claims.zone.clone();
        let (sender, receiver) = mpsc::channel(4);
        let (global, mut messages) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            let end = match said_hello(&zone, &mut messages).await {
                // Nothing is known of the zone but its name.
                Err(status) => {
                    tracing::warn!(zone, reason = status.message(), "refused the zone's stream");
                    status
                }
                Ok(hello) => match global.agree(&zone, &hello).await {
                    Err(status) => status,
                    Ok(schema) => {
                        let replaced = global.enter(&zone);
                        let Err(status) =
                            global.serve(&token, hello, schema, messages, replaced, &sender).await;
                        tracing::info!(zone, reason = status.message(), "zone disconnected");
                        global.left(&zone).await;
                        status
                    }
                },
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
    /// The schema to use with a zone. One that speaks none of global's is refused, and shown so; that is logged once, not
    /// at each try.
    async fn agree(&self, zone: &str, hello: &ZoneHello) -> Result<u32, Status> {
        self.leads()?;
        let theirs = meeting::zone(hello);
        let reason = match schema::agree(&theirs, &meeting::own("global", self.schemas)) {
            Ok(schema) => return Ok(schema),
            Err(reason) => reason,
        };
        let known = self.store.get(&ObjectKey::zone_insight(zone));
        let is_news = !matches!(known.as_deref(), Some(Object { spec: Spec::ZoneInsight(spec), .. }) if spec.incompatible == reason);
        if is_news {
            tracing::warn!(zone, reason, "refused the zone's stream; the zone goes on with what it has");
            self.observe(zone, |insight| {
                insight.version.clone_from(&theirs.version);
                insight.schema = theirs.schemas.newest;
                insight.incompatible.clone_from(&reason);
            })
            .await;
        }
        Err(Status::failed_precondition(reason))
    }

    async fn serve(
        &self,
        token: &Verified<ZoneClaims>,
        hello: ZoneHello,
        schema: u32,
        mut messages: Streaming<FromZone>,
        mut replaced: oneshot::Receiver<()>,
        sender: &Sender,
    ) -> Result<Infallible, Status> {
        // It may have turned since the zone came: what is entered now nobody ends.
        self.leads()?;
        let zone = &*token.claims.zone;
        self.update(zone, |state| {
            state.connected = true;
            state.version.clone_from(&hello.version);
            state.behind_since.get_or_insert_with(Timestamp::now);
        });
        tracing::info!(zone, version = hello.version, schema, "zone connected");
        let speaks = meeting::zone(&hello).schemas.newest;
        self.observe(zone, |insight| {
            insight.connected = true;
            insight.connected_at = Some(Timestamp::now());
            insight.version.clone_from(&hello.version);
            insight.schema = speaks;
            insight.incompatible.clear();
        })
        .await;
        let (mut private, adopted) = (self.store.private_changes(), self.store.private(ADOPTED));
        let (mut stream, mut changes) = self.open(zone, hello, schema);
        // What changed before the watch began it does not tell.
        self.is_expected(token)?;
        let is_sent = |object: &Object| schema::knows(object.kind(), schema);
        let copies =
            ownership::select(&self.store, |object| ownership::goes_up(object, zone) && is_sent(object));
        let welcome = GlobalWelcome {
            epoch: self.store.epoch().to_owned(),
            adopted: adopted.is_some(),
            // Also what the zone no longer says, as one of the version before: it says so.
            held: wire::held(&copies, self.schemas.newest),
            schema: self.schemas.newest,
            oldest_schema: self.schemas.oldest,
            version: meeting::VERSION.to_owned(),
        };
        stream.send(sender, from_global::Message::Welcome(welcome)).await?;
        let (mut heard, mut has_spoken) = (Instant::now(), false);
        loop {
            if let Some(delta) = stream.outgoing.next_delta() {
                stream.send(sender, from_global::Message::Delta(wire::delta(delta, schema))).await?;
            }
            let behind = !stream.outgoing.is_settled();
            self.update(zone, |state| {
                state.behind_since = behind.then(|| state.behind_since.unwrap_or_else(Timestamp::now));
            });
            tokio::select! {
                _ = &mut replaced => {
                    self.leads()?;
                    let newer = || Status::aborted("a newer stream of the zone has taken over");
                    return Err(if self.exists(zone) { newer() } else { deleted(zone) });
                }
                () = tokio::time::sleep_until(heard + SILENCE) => {
                    return Err(Status::deadline_exceeded("the zone has been silent for too long"));
                }
                changed = changes.next() => {
                    let changed = changed.ok_or_else(|| Status::unavailable("the control plane is stopping"))?;
                    for change in &changed {
                        refuses(change, token).map_or(Ok(()), Err)?;
                        stream.change(change);
                    }
                }
                Ok(()) = private.changed() => {
                    if self.store.private(ADOPTED) != adopted {
                        return Err(Status::aborted("an administrator has adopted this store"));
                    }
                    stream.release();
                }
                message = messages.next() => {
                    let Some(message) = message else { return Err(Status::cancelled("the zone closed the stream")) };
                    heard = Instant::now();
                    self.update(zone, |state| state.heard_at = Some(Timestamp::now()));
                    match message?.message {
                        Some(from_zone::Message::Ping(ping)) => stream.send(sender, from_global::Message::Pong(ping)).await?,
                        Some(from_zone::Message::Acknowledgement(ack)) => stream.outgoing.acknowledged(ack.sequence),
                        Some(from_zone::Message::Delta(delta)) => {
                            let acknowledgement = self.take(zone, delta, schema).await?;
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
                    // What other zones hold of it comes first, if it is another than is known here.
                    if !std::mem::replace(&mut has_spoken, true) {
                        self.hear(zone).await?;
                    }
                }
            }
        }
    }

    /// A stream of the zone has ended.
    async fn left(&self, zone: &str) {
        if self.leads().is_err() {
            return; // Another replica may have the zone's stream already.
        }
        let newer = {
            let zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
            let stream = zones.get(zone).and_then(|known| known.stream.as_ref());
            stream.is_some_and(|stream| !stream.is_closed())
        };
        if !self.exists(zone) {
            self.forget(zone).await;
        } else if !newer {
            self.update(zone, |state| {
                state.connected = false;
                state.behind_since.get_or_insert_with(Timestamp::now);
            });
            self.observe(zone, |insight| {
                insight.connected = false;
                insight.disconnected_at = Some(Timestamp::now());
            })
            .await;
        }
    }

    fn leads(&self) -> Result<(), Status> {
        let other = || Status::unavailable("this replica of the global control plane does not lead");
        self.admits.borrow().then_some(()).ok_or_else(other)
    }

    /// Refuses the token of a zone that was deleted, also if there is a new one of its name, and one that was revoked.
    fn is_expected(&self, token: &Verified<ZoneClaims>) -> Result<(), Status> {
        let ZoneClaims { zone, uid } = &token.claims;
        let known = self.store.get(&ObjectKey::zone(zone)).filter(|known| known.meta.uid == *uid);
        let known = known.ok_or_else(|| deleted(zone))?;
        revoked(&known, token).map_or(Ok(()), Err)
    }

    fn exists(&self, zone: &str) -> bool {
        self.store.get(&ObjectKey::zone(zone)).is_some()
    }

    /// A zone was deleted: with it goes what it said of itself, in other zones too, so that nobody trusts it any more.
    async fn forget(&self, zone: &str) {
        self.zones.lock().unwrap_or_else(PoisonError::into_inner).remove(zone);
        let insight = ObjectKey::zone_insight(zone);
        let own = ownership::select(&self.store, |object| ownership::goes_up(object, zone));
        let keys = own.iter().map(|object| object.key()).chain(self.store.get(&insight).map(|_| insight));
        if let Err(error) = store_all(&self.store, Vec::new(), keys.collect()).await {
            tracing::warn!(zone, %error, "cannot remove what the deleted zone said of itself; it goes at the next start");
        }
        if let Err(status) = self.hear(zone).await {
            tracing::warn!(
                zone,
                reason = status.message(),
                "other zones keep what they have of the deleted zone until the next start"
            );
        }
    }

    async fn hear(&self, zone: &str) -> Result<(), Status> {
        let heard = unheard::heard(&self.store, zone, &self.hearing).await;
        heard.map_err(|error| Status::unavailable(error.to_string()))
    }

    /// Forgets zones that are deleted, from now on and before.
    async fn follow_deletions(&self) {
        let (objects, mut changes) = self.store.watch();
        let mut zones: BTreeSet<&str> =
            objects.iter().filter_map(|object| ownership::owning_zone(object)).collect();
        let insights = objects.iter().filter(|object| object.kind() == Kind::ZoneInsight);
        zones.extend(insights.map(|object| &*object.meta.name));
        let unheard = unheard::of(&self.store);
        zones.extend(unheard.iter().map(String::as_str));
        for zone in zones {
            if !self.exists(zone) {
                self.forget(zone).await;
            }
        }
        while let Some(changed) = changes.next().await {
            for Change { key, object, .. } in changed {
                if key.kind == Kind::Zone && object.is_none() {
                    tracing::info!(zone = key.name, "the zone was deleted");
                    self.forget(&key.name).await;
                }
            }
        }
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

    /// No zone is connected yet.
    async fn forget_connections(&self) {
        for object in self.store.list(Kind::ZoneInsight) {
            self.observe(&object.meta.name, |insight| insight.connected = false).await;
        }
    }

    /// What the zone lacks, and the changes from then on.
    fn open(&self, zone: &str, hello: ZoneHello, schema: u32) -> (ZoneStream, ursa_store::Watch) {
        let (objects, changes) = self.store.watch();
        let enabled = |zone: &str| ownership::is_enabled(&self.store, zone);
        let unheard = unheard::withheld(&self.store);
        let is_withheld =
            |key: &ObjectKey| unheard::zone_of(key).is_some_and(|owner| unheard.contains(owner));
        let desired = objects.into_iter().filter(|object| ownership::goes_down(object, zone, enabled));
        let desired = desired.filter(|object| schema::knows(object.kind(), schema));
        let desired = desired.map(|object| (object.key(), (wire::version(&object, schema), object)));
        let desired = desired.filter(|(key, _)| !is_withheld(key)).collect();
        let (held_back, held) = wire::read_held(hello.held, schema).partition(|(key, _)| is_withheld(key));
        let stream = ZoneStream {
            zone: zone.to_owned(),
            schema,
            store: self.store.clone(),
            outgoing: Outgoing::new(held, desired),
            unheard,
            held_back,
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
    async fn take(&self, zone: &str, delta: Delta, schema: u32) -> Result<Acknowledgement, Status> {
        let refuse = |reason: String| {
            tracing::warn!(zone, reason, "refused what the zone sent");
            Status::permission_denied(reason)
        };
        let mut objects = Vec::with_capacity(delta.upserts.len());
        for item in &delta.upserts {
            let object = wire::read_object(item, schema).map_err(refuse)?;
            ownership::check_from_zone(&object, zone).map_err(refuse)?;
            objects.push(object);
        }
        let mut removals = Vec::with_capacity(delta.removals.len());
        for key in delta.removals {
            let Some(key) = wire::read_key(key, schema) else { continue };
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
    /// What both ends speak.
    schema: u32,
    store: Store,
    outgoing: Outgoing<ObjectKey, Arc<Object>>,
    /// Zones of which nothing is said yet.
    unheard: BTreeSet<String>,
    /// What the stream's zone holds of those.
    held_back: BTreeMap<ObjectKey, String>,
}

impl ZoneStream {
    /// Says from now on what is to be said of zones that have been heard meanwhile, or are not wanted.
    fn release(&mut self) {
        let unheard = unheard::withheld(&self.store);
        let before = std::mem::replace(&mut self.unheard, unheard);
        for zone in before.difference(&self.unheard.clone()) {
            let of_zone = |key: &ObjectKey| unheard::zone_of(key) == Some(zone);
            let held = self.held_back.extract_if(.., |key, _| of_zone(key)).collect::<Vec<_>>();
            let objects =
                ownership::select(&self.store, |object| ownership::owning_zone(object) == Some(zone));
            // First what there is: what the zone holds of that is not removed on the way.
            for object in objects {
                self.set(object.key(), Some(object));
            }
            for (key, version) in held {
                self.outgoing.holds(key, version);
            }
        }
    }

    fn change(&mut self, change: &Change) {
        if !schema::knows(change.key.kind, self.schema) {
            return;
        }
        if change.key.kind == Kind::Zone {
            self.release();
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
        if unheard::zone_of(&key).is_some_and(|owner| self.unheard.contains(owner)) {
            return;
        }
        let enabled = |zone: &str| ownership::is_enabled(&self.store, zone);
        let object = object.filter(|object| ownership::goes_down(object, &self.zone, enabled));
        self.outgoing.change(key, object.map(|object| (wire::version(&object, self.schema), object)));
    }

    async fn send(&self, sender: &Sender, message: from_global::Message) -> Result<(), Status> {
        let sent = sender.send_timeout(Ok(FromGlobal { message: Some(message) }), SILENCE).await;
        sent.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => Status::deadline_exceeded("the zone has not read for too long"),
            SendTimeoutError::Closed(_) => Status::cancelled("the zone closed the stream"),
        })
    }
}
