//! A global control plane that says whatever a test wants it to.

use std::pin::Pin;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use ursa_crds::schema::CURRENT;
use ursa_proto::sync::sync_server::{Sync, SyncServer};
use ursa_proto::sync::{FromGlobal, FromZone, GlobalWelcome, Held, ZoneHello, from_global, from_zone};

use super::{PATIENCE, Server, Zone};

/// Global's end of one stream.
pub(crate) struct GlobalEnd {
    pub(crate) messages: Streaming<FromZone>,
    sender: mpsc::Sender<Result<FromGlobal, Status>>,
}

struct Service {
    streams: mpsc::UnboundedSender<GlobalEnd>,
}

#[tonic::async_trait]
impl Sync for Service {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<FromGlobal, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<Streaming<FromZone>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let (sender, receiver) = mpsc::channel(64);
        let stream = GlobalEnd { messages: request.into_inner(), sender };
        self.streams.send(stream).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// The server; streams come as zones open them.
pub(crate) struct Fake {
    pub(crate) server: Server,
    streams: mpsc::UnboundedReceiver<GlobalEnd>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let (sender, streams) = mpsc::unbounded_channel();
        let routes = tonic::service::Routes::new(SyncServer::new(Service { streams: sender }));
        Self { server: Server::start(routes).await, streams }
    }

    /// The real end of a zone that connects to it.
    pub(crate) fn zone(&self, zone: &str) -> Zone {
        self.server.start_zone(zone, &self.server.address, "unread")
    }

    /// The next stream, with its hello.
    pub(crate) async fn accept(&mut self) -> (GlobalEnd, ZoneHello) {
        let stream = timeout(PATIENCE, self.streams.recv()).await.expect("a stream");
        let mut stream = stream.unwrap();
        match stream.next().await {
            Some(from_zone::Message::Hello(hello)) => (stream, hello),
            other => panic!("the first message is {other:?}"),
        }
    }
}

impl GlobalEnd {
    pub(crate) async fn send(&self, message: from_global::Message) {
        // A zone that has ended the stream says so when it is read.
        let _ = self.sender.send(Ok(FromGlobal { message: Some(message) })).await;
    }

    pub(crate) async fn welcome(&self, held: Vec<Held>) {
        let welcome = GlobalWelcome {
            epoch: "epoch-1".into(),
            held,
            schema: CURRENT,
            oldest_schema: CURRENT,
            ..GlobalWelcome::default()
        };
        self.send(from_global::Message::Welcome(welcome)).await;
    }

    /// The next message; `None` if the zone has ended the stream.
    pub(crate) async fn next(&mut self) -> Option<from_zone::Message> {
        let message = timeout(PATIENCE, self.messages.message()).await.expect("a message");
        message.ok().flatten().map(|message| message.message.unwrap())
    }

    /// The next message that is no ping; `None` if the zone has ended the stream.
    pub(crate) async fn news(&mut self) -> Option<from_zone::Message> {
        loop {
            match self.next().await {
                Some(from_zone::Message::Ping(ping)) => self.send(from_global::Message::Pong(ping)).await,
                other => return other,
            }
        }
    }
}
