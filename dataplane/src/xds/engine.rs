//! The task that owns the relay: takes events of both streams, sends what the relay says, keeps the last-good set.
//!
//! Invariant: of each side only the newest stream counts; what comes from an older one is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use ursa_envoy::wire::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use crate::xds::cache::Entry;
use crate::xds::relay::{Action, Event, Relay};
use crate::xds::store::Store;

/// Changes within this time are written to disk at once.
const SAVE_AFTER: Duration = Duration::from_millis(500);

/// How often Envoy is asked again about what it refused.
const RETRY_EVERY: Duration = Duration::from_secs(30);

/// Messages that may wait for the engine before a stream is held back.
const QUEUE: usize = 64;

/// The engine's end of a stream. Either end cancels `life` when the stream is over.
#[derive(Debug)]
struct Line<T> {
    id: u64,
    // Bounded by the protocol: one response a type to Envoy, one answer a response to the control plane.
    sender: mpsc::UnboundedSender<T>,
    life: CancellationToken,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "moved once, few at a time")]
enum Input {
    UpstreamUp(Line<DeltaDiscoveryRequest>, String),
    Upstream(u64, DeltaDiscoveryResponse),
    EnvoyUp(Line<DeltaDiscoveryResponse>),
    Envoy(u64, DeltaDiscoveryRequest),
}

/// How the streams reach the engine.
#[derive(Clone, Debug)]
pub struct Handle {
    inputs: mpsc::Sender<Input>,
    ids: Arc<AtomicU64>,
}

/// A stream's end of its line to the engine.
#[derive(Debug)]
pub struct Stream<T> {
    /// Names the stream in [`Handle::from_upstream`] and [`Handle::from_envoy`].
    pub id: u64,
    /// What to send.
    pub outgoing: mpsc::UnboundedReceiver<T>,
    /// Over when cancelled, by either end.
    pub life: CancellationToken,
}

/// The engine has stopped: the agent is going down.
#[derive(Debug, thiserror::Error)]
#[error("the agent is stopping")]
pub struct Stopped;

impl Handle {
    fn line<T>(&self) -> (Line<T>, Stream<T>) {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (sender, outgoing) = mpsc::unbounded_channel();
        let life = CancellationToken::new();
        (Line { id, sender, life: life.clone() }, Stream { id, outgoing, life })
    }

    async fn send(&self, input: Input) -> Result<(), Stopped> {
        self.inputs.send(input).await.map_err(|_| Stopped)
    }

    /// A stream to the control plane begins; what is to be sent comes first on its line.
    pub async fn upstream(&self, node_id: String) -> Result<Stream<DeltaDiscoveryRequest>, Stopped> {
        let (line, stream) = self.line();
        self.send(Input::UpstreamUp(line, node_id)).await?;
        Ok(stream)
    }

    /// A stream of Envoy begins.
    pub async fn envoy(&self) -> Result<Stream<DeltaDiscoveryResponse>, Stopped> {
        let (line, stream) = self.line();
        self.send(Input::EnvoyUp(line)).await?;
        Ok(stream)
    }

    /// The control plane sent this on the stream.
    pub async fn from_upstream(&self, id: u64, response: DeltaDiscoveryResponse) -> Result<(), Stopped> {
        self.send(Input::Upstream(id, response)).await
    }

    /// Envoy sent this on the stream.
    pub async fn from_envoy(&self, id: u64, request: DeltaDiscoveryRequest) -> Result<(), Stopped> {
        self.send(Input::Envoy(id, request)).await
    }
}

/// Owns the relay.
pub struct Engine {
    relay: Relay,
    inputs: mpsc::Receiver<Input>,
    upstream: Option<Line<DeltaDiscoveryRequest>>,
    envoy: Option<Line<DeltaDiscoveryResponse>>,
    store: Store,
    saves: watch::Sender<Vec<u8>>,
    save_at: Option<Instant>,
    serving: watch::Sender<bool>,
}

/// The engine and the way to it.
pub fn engine(store: Store) -> (Engine, Handle) {
    let (inputs, receiver) = mpsc::channel(QUEUE);
    let engine = Engine {
        relay: Relay::new(store.load()),
        inputs: receiver,
        upstream: None,
        envoy: None,
        store,
        saves: watch::Sender::new(Vec::new()),
        save_at: None,
        serving: watch::Sender::new(false),
    };
    (engine, Handle { inputs, ids: Arc::default() })
}

impl Engine {
    /// Whether Envoy serves.
    pub fn serving(&self) -> watch::Receiver<bool> {
        self.serving.subscribe()
    }

    /// Runs until shutdown; then the last-good set is on disk.
    pub async fn run(
        mut self,
        mut identity: watch::Receiver<Option<Arc<Entry>>>,
        shutdown: CancellationToken,
    ) {
        let writer = tokio::spawn(write(self.store.clone(), self.saves.subscribe()));
        let mut retry = interval(RETRY_EVERY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let first = identity.borrow_and_update().clone();
        self.handle(Event::Identity(first));
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(input) = self.inputs.recv() => self.event(input),
                Ok(()) = identity.changed() => {
                    Some(Event::Identity(identity.borrow_and_update().clone()))
                }
                () = over(self.upstream.as_ref()) => {
                    self.upstream = None;
                    Some(Event::UpstreamDown)
                }
                () = over(self.envoy.as_ref()) => {
                    self.envoy = None;
                    debug!("Envoy's stream ended");
                    Some(Event::EnvoyDown)
                }
                () = due(self.save_at) => {
                    self.save();
                    None
                }
                _ = retry.tick() => self.relay.has_refusals().then_some(Event::Retry),
            };
            if let Some(event) = event {
                self.handle(event);
            }
        }
        if self.save_at.is_some() {
            self.save();
        }
        drop(self.saves);
        if let Err(error) = writer.await {
            warn!(%error, "the last-good configuration was not kept");
        }
    }

    /// Connects new lines; `None` for what an old stream says.
    fn event(&mut self, input: Input) -> Option<Event> {
        match input {
            Input::UpstreamUp(line, node_id) => {
                end(self.upstream.replace(line));
                Some(Event::UpstreamUp { node_id })
            }
            Input::EnvoyUp(line) => {
                info!("Envoy connected");
                end(self.envoy.replace(line));
                Some(Event::EnvoyUp)
            }
            Input::Upstream(id, response) => {
                self.upstream.as_ref().is_some_and(|line| line.id == id).then_some(Event::Upstream(response))
            }
            Input::Envoy(id, request) => {
                self.envoy.as_ref().is_some_and(|line| line.id == id).then_some(Event::Envoy(request))
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let actions = self.relay.handle(event);
        self.serving.send_if_modified(|known| {
            let changed = *known != self.relay.is_serving();
            *known = self.relay.is_serving();
            changed
        });
        for action in actions {
            match action {
                Action::Upstream(request) => {
                    if let Some(line) = &self.upstream {
                        // A closed line is noticed by its `life`.
                        let _ = line.sender.send(request);
                    }
                }
                Action::Envoy(response) => {
                    debug!(
                        type_url = response.type_url,
                        nonce = response.nonce,
                        adds = ?response.resources.iter().map(|resource| &resource.name).collect::<Vec<_>>(),
                        removes = ?response.removed_resources,
                        "to Envoy"
                    );
                    if let Some(line) = &self.envoy {
                        let _ = line.sender.send(response);
                    }
                }
                Action::Save => {
                    self.save_at.get_or_insert_with(|| Instant::now() + SAVE_AFTER);
                }
                Action::Reconnect => end(self.upstream.as_ref()),
                Action::Refused { resource_type, name, message } => {
                    warn!(
                        ?resource_type,
                        name, message, "Envoy refused a resource; it does not come into force"
                    );
                }
            }
        }
    }

    /// Keeps a whole set only; the one before it stays until then.
    fn save(&mut self) {
        if !self.relay.is_whole() {
            self.save_at = Some(Instant::now() + SAVE_AFTER);
            return;
        }
        self.save_at = None;
        self.saves.send_replace(self.store.encode(self.relay.last_good()));
    }
}

fn end<T, L: std::borrow::Borrow<Line<T>>>(line: Option<L>) {
    if let Some(line) = line {
        line.borrow().life.cancel();
    }
}

async fn over<T>(line: Option<&Line<T>>) {
    match line {
        Some(line) => line.life.cancelled().await,
        None => std::future::pending().await,
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Writes the newest bytes to disk, apart from the engine, which must not wait for a slow disk.
async fn write(store: Store, mut saves: watch::Receiver<Vec<u8>>) {
    while saves.changed().await.is_ok() {
        let bytes = saves.borrow_and_update().clone();
        let store = store.clone();
        match tokio::task::spawn_blocking(move || store.save(&bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "cannot keep the last-good configuration"),
            Err(error) => warn!(%error, "cannot keep the last-good configuration"),
        }
    }
}
