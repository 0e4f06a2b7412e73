//! The leader's end: a gRPC service that the other replicas connect to.

use std::convert::Infallible;
use std::pin::Pin;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use ursa_proto::replicas::Message;
use ursa_proto::replicas::replicas_server::{Replicas as Service, ReplicasServer};

use super::Replicas;
use super::conversation::{BUFFER, Conversation, End, Out, agree, greet, hello};
use crate::global::{LARGEST_MESSAGE, SILENCE};

impl Replicas {
    /// The gRPC service. It serves while this replica leads.
    pub fn service(&self) -> ReplicasServer<Self> {
        ReplicasServer::new(self.clone()).max_decoding_message_size(LARGEST_MESSAGE)
    }

    async fn serve(
        &self,
        replica: &str,
        mut incoming: Streaming<Message>,
        out: &Out,
    ) -> Result<Infallible, End> {
        let hello = hello(&mut incoming).await?;
        if hello.replica != replica {
            let message = format!("the token is for replica {replica}, not {}", hello.replica);
            return Err(Status::permission_denied(message).into());
        }
        let schema = agree(self, &hello)?;
        let hearing = self.index.hear(replica);
        greet(self, &hearing, out).await?;
        tracing::info!(replica, schema, "another replica tells what it sees");
        let conversation = Conversation::with(&self.index, replica, hearing, out, schema);
        conversation.run(hello.held, incoming, false).await
    }
}

#[tonic::async_trait]
impl Service for Replicas {
    type StreamStream = Pin<Box<dyn futures::Stream<Item = Result<Message, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<Streaming<Message>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let claims = self.tokens.verify_replica(token, &self.namespace, Timestamp::now());
        let caller = claims.map_err(|error| Status::unauthenticated(error.to_string()))?.replica;
        let mut leads = self.leads.clone();
        if !*leads.borrow_and_update() {
            return Err(Status::failed_precondition("this replica does not lead"));
        }
        let (out, messages) = mpsc::channel(BUFFER);
        let (replica, incoming) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            let status = tokio::select! {
                end = replica.serve(&caller, incoming, &out) => {
                    let Err(end) = end;
                    tracing::info!(replica = caller, reason = %end, "another replica is gone");
                    status(end)
                }
                _ = leads.wait_for(|leads| !leads) => Status::failed_precondition("this replica does not lead any more"),
            };
            // A replica that does not read may never know why.
            let _ = out.send_timeout(Err(status), SILENCE).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}

fn status(end: End) -> Status {
    match end {
        End::Status(status) => status,
        End::Silent | End::Unread => Status::deadline_exceeded(end.to_string()),
        End::Closed => Status::cancelled(end.to_string()),
        End::Refused(_) => Status::invalid_argument(end.to_string()),
        End::Incompatible(_) => Status::failed_precondition(end.to_string()),
        End::Replaced => Status::aborted(end.to_string()),
        End::Connect(_) | End::Token(_) => Status::internal(end.to_string()),
    }
}
