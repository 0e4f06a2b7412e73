//! A dataplane that is a client only: it registers as an agent does, has its certificate signed, acknowledges whatever it
//! is sent, and comes back with what it holds whenever its connection ends.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::{BoxFuture, OptionFuture};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use ursa_envoy::ResourceType;
use ursa_envoy::wire::{
    AggregatedDiscoveryServiceClient, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, type_url,
};
use ursa_proto::agent::{Identity, to_agent};

use crate::dial::Dialer;
use crate::held::Held;
use crate::leaf::Leaf;
use crate::plan::Plan;
use crate::seen::Seen;
use crate::session::{Session, authorized};

/// Bound of one message.
const MAX_MESSAGE: usize = 64 << 20;
/// Pauses between connections, as agents make them.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A dataplane that keeps connected until it is dropped.
#[derive(Debug)]
pub struct Client {
    /// What it is.
    pub plan: Arc<Plan>,
    /// What it has seen.
    pub seen: Arc<Seen>,
    orders: mpsc::UnboundedSender<Order>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Order {
    Ready(bool),
    Register,
    Read(bool),
}

impl Client {
    /// Begins to connect.
    pub fn start(plan: Plan, dialer: Dialer, token: String) -> Self {
        let (orders, receiver) = mpsc::unbounded_channel();
        let (plan, seen) = (Arc::new(plan), Arc::new(Seen::new()));
        let agent = Agent {
            plan: plan.clone(),
            seen: seen.clone(),
            dialer,
            token: token.into(),
            orders: receiver,
            ready: true,
            held: Held::default(),
            leaf: None,
        };
        Self { plan, seen, orders, task: tokio::spawn(agent.keep()) }
    }

    /// Says whether its instance is ready.
    pub fn ready(&self, ready: bool) {
        self.order(Order::Ready(ready));
    }

    /// Registers the same resource again, in a session that takes the place of the one before.
    pub fn register_again(&self) {
        self.order(Order::Register);
    }

    /// Reads its configuration, or leaves it unread while the connection stays alive.
    pub fn read(&self, reads: bool) {
        self.order(Order::Read(reads));
    }

    fn order(&self, order: Order) {
        // The task ends with this value only.
        let _ = self.orders.send(order);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Agent {
    plan: Arc<Plan>,
    seen: Arc<Seen>,
    dialer: Dialer,
    token: Arc<str>,
    orders: mpsc::UnboundedReceiver<Order>,
    ready: bool,
    held: Held,
    leaf: Option<Leaf>,
}

impl Agent {
    async fn keep(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            self.seen.attempt();
            let Err(fault) = Box::pin(self.once()).await;
            if self.seen.configured().is_some() {
                pause = FIRST_PAUSE;
            }
            self.seen.ended(&fault);
            tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * rand::random::<f64>())).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One connection, to its end.
    async fn once(&mut self) -> Result<Infallible, anyhow::Error> {
        let channel = self.dialer.dial(self.leaf.as_ref(), &self.seen.wire).await?;
        // Who has a certificate needs no token.
        let token = self.leaf.is_none().then(|| self.token.clone());
        let mut session = self.register(&channel, token.as_deref()).await?;
        let (requests, mut responses) = {
            let (requests, receiver) = mpsc::channel(64);
            for resource_type in ResourceType::ALL {
                let request = DeltaDiscoveryRequest {
                    node: Some(Node { id: session.node_id.clone(), ..Default::default() }),
                    type_url: resource_type.type_url().to_owned(),
                    initial_resource_versions: self.held.versions(resource_type),
                    ..Default::default()
                };
                requests.send(request).await?;
            }
            let mut ads =
                AggregatedDiscoveryServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE);
            let request = authorized(ReceiverStream::new(receiver), token.as_deref())?;
            (requests, ads.delta_aggregated_resources(request).await?.into_inner())
        };
        let mut identity: Option<Identity> = None;
        let mut signing: OptionFuture<BoxFuture<'static, anyhow::Result<Leaf>>> = None.into();
        let mut reads = true;
        loop {
            tokio::select! {
                message = session.next() => {
                    if let to_agent::Message::Identity(wanted) = message? {
                        if !self.is_certified(&wanted) {
                            let sign = Leaf::sign(channel.clone(), token.clone(), session.node_id.clone());
                            let sign: BoxFuture<'static, _> = Box::pin(sign);
                            signing = Some(sign).into();
                        }
                        identity = Some(wanted);
                    }
                }
                Some(leaf) = &mut signing => {
                    self.leaf = Some(leaf?);
                    signing = None.into();
                }
                response = responses.message(), if reads => {
                    let response = response?.context("the stream ended")?;
                    self.acknowledge(response, &requests).await?;
                }
                Some(order) = self.orders.recv() => match order {
                    Order::Ready(ready) => {
                        self.ready = ready;
                        session.ready(ready).await?;
                    }
                    Order::Register => session = self.register(&channel, token.as_deref()).await?,
                    Order::Read(wanted) => reads = wanted,
                },
            }
            let is_whole = self.held.count(ResourceType::Listener) >= self.plan.listeners();
            let is_certified = identity.as_ref().is_some_and(|identity| self.is_certified(identity));
            if is_whole && is_certified && self.seen.configured().is_none() {
                self.seen.is_configured();
            }
        }
    }

    async fn register(&self, channel: &Channel, token: Option<&str>) -> anyhow::Result<Session> {
        let session = Session::open(channel, token, &self.plan).await?;
        if !self.plan.is_ingress() {
            session.ready(self.ready).await?;
        }
        Ok(session)
    }

    /// Whether it has the certificate that it is to have.
    fn is_certified(&self, wanted: &Identity) -> bool {
        wanted.spiffe_id.is_empty() || self.leaf.as_ref().is_some_and(|leaf| leaf.signer == wanted.signer)
    }

    async fn acknowledge(
        &mut self,
        response: DeltaDiscoveryResponse,
        requests: &mpsc::Sender<DeltaDiscoveryRequest>,
    ) -> anyhow::Result<()> {
        let resources = response.resources.len() + response.removed_resources.len();
        self.seen.received(resources, response.encoded_len());
        self.held.take(&response)?;
        if response.type_url == type_url::ENDPOINT {
            self.seen.endpoints_of(response.resources.iter().map(|resource| resource.name.as_str()));
        }
        let DeltaDiscoveryResponse { type_url, nonce: response_nonce, .. } = response;
        let request = DeltaDiscoveryRequest { type_url, response_nonce, ..Default::default() };
        requests.send(request).await.context("the stream has ended")?;
        self.seen.has_acknowledged();
        Ok(())
    }
}
