//! Delta ADS: one task a stream, woken by the proxy's snapshots and by the agent's requests.

use futures::StreamExt as _;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use ursa_envoy::ResourceSet;
use ursa_envoy::wire::{
    AggregatedDiscoveryService, DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest,
    DiscoveryResponse,
};
use ursa_index::{Index, Rejection, Snapshot, SnapshotReceiver};
use ursa_model::ProxyId;

use crate::Context;
use crate::access::{Caller, excluded, is_excluded};
use crate::revocation::Revocations;
use crate::stream::{Answer, DeltaStream};

/// Responses that wait for the network. More is never needed: each type has one on its way at most.
const BUFFER: usize = 8;

pub(crate) struct AdsService {
    context: Context,
    revocations: Revocations,
}

impl AdsService {
    pub(crate) fn new(context: Context, revocations: Revocations) -> Self {
        Self { context, revocations }
    }
}

type ResponseStream<T> = Pin<Box<dyn futures::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for AdsService {
    type StreamAggregatedResourcesStream = ResponseStream<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = ResponseStream<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("use DeltaAggregatedResources"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let caller = Caller::of(&self.context, request.metadata(), request.extensions()).await?;
        let (context, revocations) = (self.context.clone(), self.revocations.clone());
        let requests = request.into_inner();
        let (responses, receiver) = mpsc::channel(BUFFER);
        tokio::spawn(async move {
            let served = tokio::select! {
                biased;
                revoked = revocations.of(&caller) => {
                    tracing::info!(token_id = caller.token_id(), "the token is revoked: the delta stream ends");
                    Err(revoked)
                }
                served = serve(&context, &caller, requests, &responses) => served,
            };
            if let Err(status) = served {
                let _ = responses.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

type Sender = mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>;

async fn serve(
    context: &Context,
    caller: &Caller,
    mut requests: Streaming<DeltaDiscoveryRequest>,
    responses: &Sender,
) -> Result<(), Status> {
    let Some(first) = requests.message().await? else { return Ok(()) };
    let node_id = first.node.as_ref().map(|node| node.id.clone()).unwrap_or_default();
    let proxy = caller.registered(context, &node_id)?;
    let snapshots = context.index.opened(&proxy).await;
    let snapshots = snapshots.ok_or_else(|| Status::unavailable("the control plane is stopping"))?;
    let mut stream =
        ProxyStream { proxy, index: context.index.clone(), delta: DeltaStream::default(), aim: None };
    tracing::debug!(proxy = %stream.proxy, "delta stream opened");
    stream.request(&first)?;
    let result = stream.run(context, snapshots, requests, responses).await;
    tracing::debug!(proxy = %stream.proxy, "delta stream closed");
    result
}

struct ProxyStream {
    proxy: ProxyId,
    index: Index,
    delta: DeltaStream,
    /// What the proxy is brought to.
    aim: Option<Arc<Snapshot>>,
}

impl ProxyStream {
    async fn run(
        &mut self,
        context: &Context,
        mut snapshots: SnapshotReceiver,
        mut requests: Streaming<DeltaDiscoveryRequest>,
        responses: &Sender,
    ) -> Result<(), Status> {
        snapshots.mark_changed();
        loop {
            tokio::select! {
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        return Err(Status::unavailable("the control plane is stopping"));
                    }
                    if let Some(snapshot) = snapshots.borrow_and_update().as_ref() {
                        if let Some(reason) = &snapshot.exclusion {
                            if is_excluded(context, &self.proxy) {
                                return Err(excluded(&self.proxy, reason));
                            }
                            continue;
                        }
                        self.aim = Some(snapshot.clone());
                        self.forget_replaced(&snapshot.resources);
                        self.delta.aim(snapshot.resources.clone());
                    }
                }
                request = requests.next() => match request {
                    None => return Ok(()),
                    Some(request) => self.request(&request?)?,
                },
            }
            for response in self.delta.responses() {
                self.index.insights().count(&self.proxy, |insight| insight.responses += 1);
                if responses.send(Ok(response)).await.is_err() {
                    return Ok(());
                }
            }
            if let Some(aim) = self.aim.as_ref().filter(|_| self.delta.is_settled()) {
                self.index.acknowledged(&self.proxy, aim);
            }
        }
    }

    /// A resource that was refused is of no concern once another version of it, or none, is wanted.
    fn forget_replaced(&self, wanted: &ResourceSet) {
        if !self.index.insights().has_rejections(&self.proxy) {
            return;
        }
        self.index.observe(&self.proxy, |insight| {
            insight.rejections.retain(|key, rejection| {
                wanted.get(key).is_some_and(|resource| resource.version == rejection.version)
            });
        });
    }

    fn request(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), Status> {
        if let Some(node) = &request.node
            && !node.id.is_empty()
            && node.id != self.proxy.to_string()
        {
            return Err(Status::permission_denied("the node id changed within the stream"));
        }
        let (_, answer) = self
            .delta
            .request(request)
            .ok_or_else(|| Status::invalid_argument(format!("unknown type {:?}", request.type_url)))?;
        if let Answer::Refused { resources, message } = answer {
            tracing::warn!(proxy = %self.proxy, type_url = request.type_url, %message, "the proxy refused resources");
            self.index.observe(&self.proxy, |insight| {
                let rejection = |version| Rejection { version, message: message.clone() };
                insight
                    .rejections
                    .extend(resources.into_iter().map(|(key, version)| (key, rejection(version))));
            });
        }
        Ok(())
    }
}
