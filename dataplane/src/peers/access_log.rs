//! Envoy's access log service: what it logs of permissive inbounds is counted.

use std::time::SystemTime;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;
use ursa_envoy::wire::{AccessLogService, StreamAccessLogsMessage, StreamAccessLogsResponse};

use super::PeerCounter;

/// The service.
pub struct AccessLog {
    /// Where it counts.
    pub counter: watch::Sender<PeerCounter>,
    /// Ends the streams.
    pub shutdown: CancellationToken,
}

#[tonic::async_trait]
impl AccessLogService for AccessLog {
    async fn stream_access_logs(
        &self,
        request: Request<Streaming<StreamAccessLogsMessage>>,
    ) -> Result<Response<StreamAccessLogsResponse>, Status> {
        let mut messages = request.into_inner();
        let mut log = None;
        loop {
            let message = tokio::select! {
                message = messages.message() => message,
                () = self.shutdown.cancelled() => break,
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => {
                    debug!(%error, "Envoy's access log broke");
                    break;
                }
            };
            log = ursa_envoy::log_of(&message).or(log);
            let Some((port, transport)) = log else {
                return Err(Status::invalid_argument("the access log is of no permissive inbound"));
            };
            let peers = ursa_envoy::peers(&message);
            let now = SystemTime::now();
            self.counter.send_if_modified(|counter| {
                peers.iter().for_each(|peer| counter.count(port, transport, *peer, now));
                !peers.is_empty()
            });
        }
        Ok(Response::new(StreamAccessLogsResponse {}))
    }
}
