//! The end of a replica that does not lead: keeps one stream to the leader open.

use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};
use ursa_proto::replicas::Message;
use ursa_proto::replicas::replicas_client::ReplicasClient;

use super::conversation::{BUFFER, Conversation, End, agree, greet, hello};
use super::{Leader, Replicas, Trust};
use crate::global::LARGEST_MESSAGE;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(3);

impl Replicas {
    /// Keeps a stream to the leader open for as long as there is another one, until the sender of `leader` is gone.
    pub fn follow(&self, mut leader: watch::Receiver<Option<Leader>>, trust: Trust) {
        let replica = self.clone();
        tokio::spawn(async move {
            let (mut retry, mut told) = (FIRST_RETRY, None);
            loop {
                let other = leader.borrow_and_update().clone();
                let ended = async {
                    let Some(other) = other.filter(|other| other.identity != replica.identity) else {
                        return std::future::pending().await;
                    };
                    let mut met = false;
                    let Err(end) = replica.stream(&other, &trust, &mut met).await;
                    let Leader { identity, address } = &other;
                    if met {
                        (retry, told) = (FIRST_RETRY, None);
                    }
                    let news = Some((identity.clone(), end.to_string()));
                    if told != news {
                        tracing::warn!(leader = identity, address, reason = %end, "the leader is not told, nor heard; trying again");
                        told = news;
                    }
                    // Jitter, so that replicas do not come back all at once.
                    tokio::time::sleep(retry.mul_f64(rand::random_range(0.5..1.0))).await;
                    retry = (retry * 2).min(LONGEST_RETRY);
                };
                tokio::select! {
                    () = ended => {}
                    changed = leader.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        retry = FIRST_RETRY;
                    }
                }
            }
        });
    }

    async fn stream(&self, leader: &Leader, trust: &Trust, met: &mut bool) -> Result<Infallible, End> {
        let address = format!("https://{}", leader.address);
        let channel = ursa_proto::connect_as(&address, &trust.server_name, &trust.ca_file).await?;
        let (out, messages) = mpsc::channel::<Result<Message, Status>>(BUFFER);
        let messages = ReceiverStream::new(messages).filter_map(async |message| message.ok());
        let mut request = Request::new(messages);
        let token = self.token(Timestamp::now())?;
        let mut header = MetadataValue::try_from(format!("Bearer {token}"))
            .map_err(|_| End::Refused("a token that cannot be sent".into()))?;
        header.set_sensitive(true);
        request.metadata_mut().insert("authorization", header);
        let mut client = ReplicasClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE);
        let mut incoming = client.stream(request).await?.into_inner();
        let hearing = self.index.hear(&leader.identity);
        greet(self, &hearing, &out).await?;
        let hello = hello(&mut incoming).await?;
        if hello.replica != leader.identity {
            return Err(End::Refused(format!("it is {}, not {}", hello.replica, leader.identity)));
        }
        let schema = agree(self, &hello)?;
        *met = true;
        tracing::info!(leader = leader.identity, schema, "the leader is told, and heard");
        let conversation = Conversation::with(&self.index, &leader.identity, hearing, &out, schema);
        conversation.run(hello.held, incoming, true).await
    }
}
