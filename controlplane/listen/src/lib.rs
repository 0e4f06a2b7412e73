//! Servers over TLS: accepts connections, or passes them on to the replica that leads, and tells requests which
//! certificates their peers hold the key of.

mod accept;
mod connection;
mod route;

use std::time::Duration;

use tonic::service::Routes;

pub use accept::Listener;
pub use connection::{Connection, PeerCertificates};
pub use route::Route;

/// A peer that does not answer pings is gone after the sum of both.
const PING_INTERVAL: Duration = Duration::from_secs(3);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Streams of one connection: a client has two or three, and calls now and then.
const STREAMS: u32 = 64;

/// Serves gRPC until `shutdown` is done; then no more connections are taken and open calls may end.
pub async fn serve(
    routes: Routes,
    listener: Listener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .max_concurrent_streams(STREAMS)
        .add_routes(routes)
        .serve_with_incoming_shutdown(listener.connections(), shutdown)
        .await
}
