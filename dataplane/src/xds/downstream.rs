//! The server for Envoy, on a Unix socket in the run folder: delta ADS, and the access log of permissive inbounds.
//!
//! Invariant: only a process of this very user is heard; the folder is closed to all others, too.

use std::future::ready;
use std::io;
use std::path::Path;
use std::pin::Pin;

use futures::{Stream, StreamExt};
use nix::unistd::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, warn};
use ursa_envoy::wire::{
    AccessLogServiceServer, AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};

use crate::files::remove_stale;
use crate::peers::AccessLog;
use crate::xds::engine::{Handle, Stopped};

/// Binds the socket; a stale one is replaced.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    remove_stale(path)?;
    UnixListener::bind(path)
}

/// Serves Envoy until shutdown.
pub async fn serve(
    listener: UnixListener,
    engine: Handle,
    access_log: AccessLog,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let incoming = UnixListenerStream::new(listener).filter_map(|stream| ready(stream.map(own).transpose()));
    tonic::transport::Server::builder()
        .add_service(AggregatedDiscoveryServiceServer::new(Downstream { engine }))
        .add_service(AccessLogServiceServer::new(access_log))
        .serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned())
        .await
}

/// The stream, if the peer runs as this user.
fn own(stream: UnixStream) -> Option<UnixStream> {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == geteuid().as_raw() => Some(stream),
        Ok(peer) => {
            warn!(
                uid = peer.uid(),
                pid = peer.pid(),
                "refused a connection to the xDS socket by another user"
            );
            None
        }
        Err(error) => {
            warn!(%error, "refused a connection to the xDS socket: cannot tell whose it is");
            None
        }
    }
}

struct Downstream {
    engine: Handle,
}

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn stopping(_: Stopped) -> Status {
    Status::unavailable("the agent is stopping")
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Downstream {
    type StreamAggregatedResourcesStream = ResponseStream<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = ResponseStream<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("this server speaks the delta protocol only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let mut requests = request.into_inner();
        let stream = self.engine.envoy().await.map_err(stopping)?;
        let engine = self.engine.clone();
        let (id, life) = (stream.id, stream.life);
        tokio::spawn(async move {
            let _guard = life.clone().drop_guard();
            loop {
                let request = tokio::select! {
                    request = requests.message() => request,
                    () = life.cancelled() => break,
                };
                match request {
                    Ok(Some(request)) => {
                        if engine.from_envoy(id, request).await.is_err() {
                            break;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        debug!(%error, "Envoy's stream broke");
                        break;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(stream.outgoing).map(Ok))))
    }
}
