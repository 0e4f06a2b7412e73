//! A client's session with the control plane: it registers, and says whether its instance is ready.

use anyhow::{Context as _, bail};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Streaming};
use ursa_proto::agent::agent_client::AgentClient;
use ursa_proto::agent::{FromAgent, Hello, InboundReadiness, Readiness, ToAgent, from_agent, to_agent};

use crate::plan::{PORT, Plan};

/// An open session.
#[derive(Debug)]
pub struct Session {
    outgoing: mpsc::Sender<FromAgent>,
    incoming: Streaming<ToAgent>,
    /// What the control plane calls it.
    pub node_id: String,
}

impl Session {
    /// Registers; returns when the control plane has welcomed it.
    pub async fn open(channel: &Channel, token: Option<&str>, plan: &Plan) -> anyhow::Result<Self> {
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
        Ok(Self { outgoing, incoming, node_id: welcome.node_id })
    }

    /// Says whether its instance is ready.
    pub async fn ready(&self, ready: bool) -> anyhow::Result<()> {
        let inbounds = vec![InboundReadiness { port: PORT.into(), ready }];
        send(&self.outgoing, from_agent::Message::Readiness(Readiness { inbounds })).await
    }

    /// What the control plane says next. Cancel-safe.
    pub async fn next(&mut self) -> anyhow::Result<to_agent::Message> {
        loop {
            let message = self.incoming.message().await?.context("the session ended")?;
            if let Some(message) = message.message {
                return Ok(message);
            }
        }
    }
}

async fn send(outgoing: &mpsc::Sender<FromAgent>, message: from_agent::Message) -> anyhow::Result<()> {
    outgoing.send(FromAgent { message: Some(message) }).await.context("the session has ended")
}

/// A request with this token; without one, the connection's certificate says who asks.
pub fn authorized<T>(message: T, token: Option<&str>) -> anyhow::Result<Request<T>> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    }
    Ok(request)
}
