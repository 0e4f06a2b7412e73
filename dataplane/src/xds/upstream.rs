//! The delta ADS stream to the control plane: carries messages between it and the engine, no more.

use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;
use ursa_envoy::wire::AggregatedDiscoveryServiceClient;

use crate::cp::Link;
use crate::xds::engine::Handle;

/// Bound of one message; a proxy's whole configuration comes in a few.
const MAX_MESSAGE: usize = 256 << 20;

/// Runs a stream; returns when it ended, by either side.
pub async fn run(link: &Link, node_id: String, engine: &Handle) -> Result<(), Status> {
    let stopping = |_| Status::cancelled("the agent is stopping");
    let stream = engine.upstream(node_id).await.map_err(stopping)?;
    // Dropping this future ends the stream for the engine too.
    let _guard = stream.life.clone().drop_guard();
    let mut client =
        AggregatedDiscoveryServiceClient::new(link.channel()).max_decoding_message_size(MAX_MESSAGE);
    let request = link.authorize(UnboundedReceiverStream::new(stream.outgoing))?;
    let mut responses = client.delta_aggregated_resources(request).await?.into_inner();
    loop {
        let response = tokio::select! {
            response = responses.message() => response?,
            () = stream.life.cancelled() => return Ok(()),
        };
        match response {
            Some(response) => engine.from_upstream(stream.id, response).await.map_err(stopping)?,
            None => return Ok(()),
        }
    }
}
