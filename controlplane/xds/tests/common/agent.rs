//! A client: sessions, certificates and delta ADS, with whatever credential.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};
use ursa_envoy::ResourceType;
use ursa_envoy::wire::{
    AggregatedDiscoveryServiceClient, DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest,
    DiscoveryResponse, Node,
};
use ursa_proto::agent::agent_client::AgentClient;
use ursa_proto::agent::{
    FromAgent, Hello, Identity, SignCertificateRequest, SignCertificateResponse, ToAgent, Welcome,
    from_agent, to_agent,
};

use super::PATIENCE;

/// A connection, and what each call on it says of the caller.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) channel: Channel,
    pub(crate) authorization: Option<String>,
}

/// The first message of a stream, or the status that it ended with.
pub(crate) async fn outcome<T>(call: Result<Response<Streaming<T>>, Status>) -> Result<T, Status> {
    let mut stream = call?.into_inner();
    let first = timeout(PATIENCE, stream.message()).await.expect("an answer");
    first.map(|message| message.expect("a stream ends with a reason"))
}

impl Agent {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(text) = &self.authorization {
            request.metadata_mut().insert("authorization", text.parse().unwrap());
        }
        request
    }

    /// Opens a session with this first message.
    pub(crate) async fn begin(&self, first: from_agent::Message) -> Result<Session, Status> {
        let (sender, messages) = mpsc::channel(8);
        sender.send(FromAgent { message: Some(first) }).await.unwrap();
        let request = self.request(ReceiverStream::new(messages));
        let stream = AgentClient::new(self.channel.clone()).session(request).await?.into_inner();
        let mut session = Session { sender, stream, welcome: Welcome::default() };
        match session.next().await? {
            to_agent::Message::Welcome(welcome) => session.welcome = welcome,
            other => panic!("{other:?} before the welcome"),
        }
        Ok(session)
    }

    /// Registers this resource.
    pub(crate) async fn register(&self, resource: impl AsRef<[u8]>) -> Result<Session, Status> {
        let resource = resource.as_ref().to_vec();
        let hello =
            Hello { resource, agent_version: "1".into(), envoy_version: "2".into(), node_id: String::new() };
        self.begin(from_agent::Message::Hello(hello)).await
    }

    pub(crate) async fn sign(&self, node_id: &str, csr: &[u8]) -> Result<SignCertificateResponse, Status> {
        let message = SignCertificateRequest { csr: csr.to_vec(), node_id: node_id.into() };
        let call = AgentClient::new(self.channel.clone());
        let answer = timeout(PATIENCE, { call }.sign_certificate(self.request(message))).await;
        answer.expect("an answer").map(Response::into_inner)
    }

    /// Opens a delta stream with these requests; it stays open as long as the sender lives.
    pub(crate) async fn delta(
        &self,
        requests: Vec<DeltaDiscoveryRequest>,
    ) -> (mpsc::Sender<DeltaDiscoveryRequest>, Result<Response<Streaming<DeltaDiscoveryResponse>>, Status>)
    {
        let (sender, receiver) = mpsc::channel(1024);
        for request in requests {
            sender.send(request).await.unwrap();
        }
        let mut client = AggregatedDiscoveryServiceClient::new(self.channel.clone());
        let call = client.delta_aggregated_resources(self.request(ReceiverStream::new(receiver))).await;
        (sender, call)
    }

    /// What a delta stream with this node id says first.
    pub(crate) async fn first_delta(&self, node_id: &str) -> Result<DeltaDiscoveryResponse, Status> {
        let (_open, call) = self.delta(subscriptions(node_id)).await;
        outcome(call).await
    }

    /// What a stream of the other xDS variant, state of the world, says first.
    pub(crate) async fn first_of_the_world(&self) -> Result<DiscoveryResponse, Status> {
        let (sender, receiver) = mpsc::channel(1);
        sender.send(DiscoveryRequest::default()).await.unwrap();
        let mut client = AggregatedDiscoveryServiceClient::new(self.channel.clone());
        outcome(client.stream_aggregated_resources(self.request(ReceiverStream::new(receiver))).await).await
    }

    /// Opens a delta stream and subscribes to everything.
    pub(crate) async fn ads(&self, node_id: &str) -> Ads {
        let (requests, call) = self.delta(subscriptions(node_id)).await;
        Ads { requests, responses: call.unwrap().into_inner(), held: BTreeMap::new(), received: 0 }
    }
}

/// An open session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) sender: mpsc::Sender<FromAgent>,
    stream: Streaming<ToAgent>,
    pub(crate) welcome: Welcome,
}

impl Session {
    pub(crate) async fn next(&mut self) -> Result<to_agent::Message, Status> {
        let message = timeout(PATIENCE, self.stream.message()).await.expect("an answer")?;
        Ok(message.expect("a stream ends with a reason").message.unwrap())
    }

    /// Takes a message; false at the end of the stream.
    pub(crate) async fn next_or_end(&mut self) -> bool {
        timeout(PATIENCE, self.stream.message()).await.expect("an answer").unwrap().is_some()
    }

    /// The certificate that the agent is to have.
    pub(crate) async fn identity(&mut self) -> Identity {
        match self.next().await.unwrap() {
            to_agent::Message::Identity(identity) => identity,
            other => panic!("{other:?}, no identity"),
        }
    }

    pub(crate) async fn send(&self, message: from_agent::Message) {
        self.sender.send(FromAgent { message: Some(message) }).await.unwrap();
    }
}

pub(crate) fn delta_request(node_id: &str, type_url: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node { id: node_id.into(), ..Default::default() }),
        type_url: type_url.into(),
        ..Default::default()
    }
}

pub(crate) fn subscriptions(node_id: &str) -> Vec<DeltaDiscoveryRequest> {
    ResourceType::ALL.into_iter().map(|kind| delta_request(node_id, kind.type_url())).collect()
}

/// A delta stream that takes and acknowledges everything.
pub(crate) struct Ads {
    pub(crate) requests: mpsc::Sender<DeltaDiscoveryRequest>,
    pub(crate) responses: Streaming<DeltaDiscoveryResponse>,
    /// (type URL, name) → the encoded resource.
    pub(crate) held: BTreeMap<(String, String), Vec<u8>>,
    pub(crate) received: usize,
}

impl Ads {
    /// Takes one response.
    pub(crate) async fn next(&mut self) -> Result<(), Status> {
        let response = timeout(PATIENCE, self.responses.message()).await.expect("a response")?;
        let response = response.expect("a stream ends with a reason");
        self.received += 1;
        for resource in response.resources {
            let body = resource.resource.unwrap().value;
            self.held.insert((response.type_url.clone(), resource.name), body.clone());
        }
        for name in response.removed_resources {
            self.held.remove(&(response.type_url.clone(), name));
        }
        let answer = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..Default::default()
        };
        // A stream that has ended says so at the next response.
        let _ = self.requests.send(answer).await;
        Ok(())
    }

    /// Takes responses until what is held is like this.
    pub(crate) async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let wait = async {
            while !condition(self) {
                self.next().await.unwrap();
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} never came"));
    }

    /// Whether any resource's name or body has this text in it.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        self.held.iter().any(|((_, name), body)| {
            name.contains(text) || body.windows(text.len()).any(|part| part == text.as_bytes())
        })
    }

    pub(crate) fn has(&self, kind: ResourceType) -> bool {
        self.held.keys().any(|(type_url, _)| type_url == kind.type_url())
    }
}
