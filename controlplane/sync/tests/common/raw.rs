//! A zone's end of the stream, message by message.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, interval_at, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};
use ursa_crds::Object;
use ursa_crds::schema::CURRENT;
use ursa_proto::sync::sync_client::SyncClient;
use ursa_proto::sync::{
    Acknowledgement, Delta, FromGlobal, FromZone, GlobalWelcome, Held, Key, Ping, ZoneHello, from_global,
    from_zone,
};

use super::objects::{item, text};
use super::{PATIENCE, World};

const LARGEST_MESSAGE: usize = 64 * 1024 * 1024;

/// The nonce of the pings that keep a stream open, whatever else a test has to do.
const KEEP: u64 = 0;

/// An open stream. It pings every second.
#[derive(Debug)]
pub(crate) struct RawZone {
    sender: mpsc::Sender<FromZone>,
    messages: Streaming<FromGlobal>,
    pub(crate) welcome: GlobalWelcome,
    sequence: u64,
    pings: AbortHandle,
}

impl Drop for RawZone {
    fn drop(&mut self) {
        self.pings.abort();
    }
}

async fn keep(sender: mpsc::Sender<FromZone>) {
    let every = Duration::from_secs(1);
    let mut ticks = interval_at(Instant::now() + every, every);
    loop {
        ticks.tick().await;
        let ping = from_zone::Message::Ping(Ping { nonce: KEEP });
        if sender.send(FromZone { message: Some(ping) }).await.is_err() {
            return;
        }
    }
}

pub(crate) fn hello(zone: &str, held: Vec<Held>) -> from_zone::Message {
    from_zone::Message::Hello(ZoneHello {
        zone: zone.into(),
        version: "1".into(),
        held,
        schema: CURRENT,
        oldest_schema: CURRENT,
    })
}

impl RawZone {
    /// Opens a stream with this authorization and this first message, and waits for the welcome.
    pub(crate) async fn open(
        world: &World,
        authorization: Option<&str>,
        first: from_zone::Message,
    ) -> Result<Self, Status> {
        let address = format!("https://{}", world.server.address);
        let channel = ursa_proto::connect(&address, &world.server.ca_file).await.unwrap();
        let (sender, requests) = mpsc::channel(8);
        sender.send(FromZone { message: Some(first) }).await.unwrap();
        let mut request = Request::new(ReceiverStream::new(requests));
        if let Some(text) = authorization {
            request.metadata_mut().insert("authorization", text.parse().unwrap());
        }
        let mut client = SyncClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE);
        let messages = client.stream(request).await?.into_inner();
        let pings = tokio::spawn(keep(sender.clone())).abort_handle();
        let mut zone = Self { sender, messages, welcome: GlobalWelcome::default(), sequence: 0, pings };
        match zone.next().await? {
            from_global::Message::Welcome(welcome) => zone.welcome = welcome,
            other => panic!("the first message is {other:?}"),
        }
        Ok(zone)
    }

    /// A zone with a valid token, which holds this.
    pub(crate) async fn with(world: &World, zone: &str, held: Vec<Held>) -> Self {
        let authorization = format!("Bearer {}", world.token(zone).await);
        Self::open(world, Some(&authorization), hello(zone, held)).await.unwrap()
    }

    /// A zone with a valid token, which holds nothing and has taken everything.
    pub(crate) async fn connect(world: &World, zone: &str) -> Self {
        let mut raw = Self::with(world, zone, Vec::new()).await;
        let delta = raw.delta().await;
        raw.acknowledge(&delta).await;
        raw.ping().await;
        raw
    }

    pub(crate) async fn send(&self, message: from_zone::Message) {
        // A stream that has ended says so when it is read.
        let _ = self.sender.send(FromZone { message: Some(message) }).await;
    }

    /// No pings from now on.
    pub(crate) fn fall_silent(&self) {
        self.pings.abort();
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Result<from_global::Message, Status> {
        loop {
            let message = timeout(PATIENCE, self.messages.message()).await.expect("an answer")?;
            match message.expect("a stream ends with a reason").message.unwrap() {
                from_global::Message::Pong(Ping { nonce: KEEP }) => {}
                other => return Ok(other),
            }
        }
    }

    /// The next message, which is a delta.
    pub(crate) async fn delta(&mut self) -> Delta {
        match self.next().await.unwrap() {
            from_global::Message::Delta(delta) => delta,
            other => panic!("not a delta: {other:?}"),
        }
    }

    pub(crate) async fn acknowledge(&self, delta: &Delta) {
        self.send(from_zone::Message::Acknowledgement(Acknowledgement { sequence: delta.sequence })).await;
    }

    /// Takes the next delta; what it was, as `+KIND NAME` and `-KIND NAME`.
    pub(crate) async fn take(&mut self) -> Vec<String> {
        let delta = self.delta().await;
        self.acknowledge(&delta).await;
        let upserts = delta.upserts.iter().map(|item| format!("+{}", text(item.key.as_ref().unwrap())));
        upserts.chain(delta.removals.iter().map(|key| format!("-{}", text(key)))).collect()
    }

    /// Pings; the next message is the pong: nothing else was on its way.
    pub(crate) async fn ping(&mut self) {
        self.sequence += 1;
        self.send(from_zone::Message::Ping(Ping { nonce: self.sequence })).await;
        let pong = self.next().await.unwrap();
        assert_eq!(pong, from_global::Message::Pong(Ping { nonce: self.sequence }));
    }

    /// Offers these objects and withdraws these, and waits until global has stored that.
    pub(crate) async fn offer(&mut self, objects: &[Object], removals: Vec<Key>) {
        self.sequence += 1;
        let delta = Delta { sequence: self.sequence, upserts: objects.iter().map(item).collect(), removals };
        self.send(from_zone::Message::Delta(delta)).await;
        let answer = self.next().await.unwrap();
        let acknowledgement = Acknowledgement { sequence: self.sequence };
        assert_eq!(answer, from_global::Message::Acknowledgement(acknowledgement));
    }

    /// Sends what must end the stream like this, and change nothing.
    pub(crate) async fn refused(
        mut self,
        world: &World,
        what: &str,
        message: from_zone::Message,
        codes: &[Code],
        words: &[&str],
    ) {
        let before: Vec<Arc<Object>> = world.owned();
        self.send(message).await;
        let status = match self.next().await {
            Err(status) => status,
            Ok(answer) => panic!("{what}: it was answered: {answer:?}"),
        };
        assert!(codes.contains(&status.code()), "{what}: {status:?}");
        for word in words {
            assert!(status.message().contains(word), "{what}: no {word:?} in {:?}", status.message());
        }
        assert_eq!(world.owned(), before, "{what}: it changed the store");
    }
}
