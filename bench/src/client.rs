//! A dataplane that is a client only: it registers as an agent does, and acknowledges whatever it is sent.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context as _, bail};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Streaming};
use ursa_envoy::ResourceType;
use ursa_envoy::wire::{
    AggregatedDiscoveryServiceClient, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, type_url,
};
use ursa_proto::agent::agent_client::AgentClient;
use ursa_proto::agent::{FromAgent, Hello, InboundReadiness, Readiness, ToAgent, from_agent, to_agent};

/// Bound of one message.
const MAX_MESSAGE: usize = 64 << 20;
/// The port of the one inbound.
const PORT: u16 = 8080;

/// What a dataplane is, by its number.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// The service that it serves.
    pub serves: String,
    /// The services that it calls.
    pub calls: Vec<String>,
    address: String,
}

impl Plan {
    /// Of the dataplane of this number, among so many services.
    pub fn new(zone: &str, number: usize, services: usize) -> Self {
        /// Services that each calls.
        const CALLS: usize = 5;
        let service = |at: usize| format!("service-{}", at % services);
        let serves = service(number);
        let mut calls: Vec<String> = (0..CALLS).map(|call| service(number * 7 + call * 3 + 1)).collect();
        calls.sort();
        calls.dedup();
        let address = format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255);
        Self { name: format!("{zone}-{number}"), serves, calls, address }
    }

    fn resource(&self) -> Value {
        let inbound =
            json!({"port": PORT, "servicePort": 8081, "tags": {"ursamesh.io/service": self.serves}});
        let outbound: Vec<Value> = (20_000..)
            .zip(&self.calls)
            .map(|(port, service)| json!({"port": port, "tags": {"ursamesh.io/service": service}}))
            .collect();
        let networking = json!({"address": self.address, "inbound": [inbound], "outbound": outbound});
        json!({
            "apiVersion": "ursamesh.io/v1alpha1",
            "kind": "Dataplane",
            "metadata": {"name": self.name},
            "spec": {"mesh": "default", "networking": networking},
        })
    }

    /// Listeners of its first configuration.
    fn listeners(&self) -> usize {
        1 + self.calls.len()
    }
}

/// What a client has seen.
#[derive(Debug)]
pub struct Seen {
    start: Instant,
    /// Nanoseconds from the start to the last acknowledgement.
    acknowledged: AtomicU64,
    responses: AtomicU64,
    bytes: AtomicU64,
}

impl Seen {
    /// When it acknowledged last, if it has.
    pub fn acknowledged(&self) -> Option<Instant> {
        let nanoseconds = self.acknowledged.load(Ordering::Acquire);
        (nanoseconds > 0).then(|| self.start + std::time::Duration::from_nanos(nanoseconds))
    }

    /// Responses so far, and their bytes.
    pub fn counts(&self) -> (u64, u64) {
        (self.responses.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// A connected dataplane.
#[derive(Debug)]
pub struct Client {
    /// What it is.
    pub plan: Plan,
    /// What it has seen.
    pub seen: Arc<Seen>,
    channel: Channel,
    token: String,
    session: Session,
    stream: JoinHandle<anyhow::Result<()>>,
}

#[derive(Debug)]
struct Session {
    outgoing: mpsc::Sender<FromAgent>,
    /// Kept, so that the session stays open.
    _incoming: Streaming<ToAgent>,
    node_id: String,
}

impl Client {
    /// Connects, registers, and returns when the first configuration is acknowledged.
    pub async fn connect(plan: Plan, address: &str, ca_file: &Path, token: String) -> anyhow::Result<Self> {
        let channel = ursa_proto::connect(address, ca_file).await?;
        let session = Session::open(&channel, &token, &plan).await?;
        let (start, zero) = (Instant::now(), AtomicU64::default);
        let seen = Arc::new(Seen { start, acknowledged: zero(), responses: zero(), bytes: zero() });
        let (outgoing, requests) = mpsc::channel(64);
        for resource_type in ResourceType::ALL {
            let node = Some(Node { id: session.node_id.clone(), ..Default::default() });
            let type_url = resource_type.type_url().to_owned();
            outgoing.send(DeltaDiscoveryRequest { node, type_url, ..Default::default() }).await?;
        }
        let mut ads =
            AggregatedDiscoveryServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let request = authorized(ReceiverStream::new(requests), &token)?;
        let mut responses = ads.delta_aggregated_resources(request).await?.into_inner();
        let mut listeners = 0;
        while listeners < plan.listeners() {
            let response = responses.message().await?.context("the stream ended")?;
            if response.type_url == type_url::LISTENER {
                listeners += response.resources.len();
            }
            acknowledge(&seen, &outgoing, response).await?;
        }
        let stream = tokio::spawn(follow(seen.clone(), outgoing, responses));
        Ok(Self { plan, seen, channel, token, session, stream })
    }

    /// Says whether its instance is ready.
    pub async fn ready(&self, ready: bool) -> anyhow::Result<()> {
        self.session.ready(ready).await
    }

    /// Registers the same resource again, in a session that takes the place of the one before.
    pub async fn register_again(&mut self) -> anyhow::Result<()> {
        self.session = Session::open(&self.channel, &self.token, &self.plan).await?;
        Ok(())
    }

    /// Fails if its stream has ended.
    pub fn must_live(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.stream.is_finished(), "the stream of {} has ended", self.plan.name);
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stream.abort();
    }
}

impl Session {
    async fn open(channel: &Channel, token: &str, plan: &Plan) -> anyhow::Result<Self> {
        let (outgoing, messages) = mpsc::channel(8);
        let hello = Hello {
            resource: plan.resource().to_string().into_bytes(),
            agent_version: "bench".into(),
            envoy_version: "none".into(),
            node_id: String::new(),
        };
        send(&outgoing, from_agent::Message::Hello(hello)).await?;
        let request = authorized(ReceiverStream::new(messages), token)?;
        let mut incoming = AgentClient::new(channel.clone()).session(request).await?.into_inner();
        let welcome = incoming.message().await?.and_then(|message| message.message);
        let Some(to_agent::Message::Welcome(welcome)) = welcome else {
            bail!("{} is not welcome: {welcome:?}", plan.name);
        };
        let session = Self { outgoing, _incoming: incoming, node_id: welcome.node_id };
        session.ready(true).await?;
        Ok(session)
    }

    async fn ready(&self, ready: bool) -> anyhow::Result<()> {
        let inbounds = vec![InboundReadiness { port: PORT.into(), ready }];
        send(&self.outgoing, from_agent::Message::Readiness(Readiness { inbounds })).await
    }
}

async fn send(outgoing: &mpsc::Sender<FromAgent>, message: from_agent::Message) -> anyhow::Result<()> {
    outgoing.send(FromAgent { message: Some(message) }).await.context("the session has ended")
}

fn authorized<T>(message: T, token: &str) -> anyhow::Result<Request<T>> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    Ok(request)
}

async fn follow(
    seen: Arc<Seen>,
    outgoing: mpsc::Sender<DeltaDiscoveryRequest>,
    mut responses: Streaming<DeltaDiscoveryResponse>,
) -> anyhow::Result<()> {
    while let Some(response) = responses.message().await? {
        acknowledge(&seen, &outgoing, response).await?;
    }
    Ok(())
}

async fn acknowledge(
    seen: &Seen,
    outgoing: &mpsc::Sender<DeltaDiscoveryRequest>,
    response: DeltaDiscoveryResponse,
) -> anyhow::Result<()> {
    seen.responses.fetch_add(1, Ordering::Relaxed);
    seen.bytes.fetch_add(response.encoded_len() as u64, Ordering::Relaxed);
    let DeltaDiscoveryResponse { type_url, nonce: response_nonce, .. } = response;
    let request = DeltaDiscoveryRequest { type_url, response_nonce, ..Default::default() };
    outgoing.send(request).await.context("the stream has ended")?;
    let nanoseconds = u64::try_from(seen.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    seen.acknowledged.store(nanoseconds, Ordering::Release);
    Ok(())
}
