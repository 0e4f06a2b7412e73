//! Servers over TLS: accepts connections, or passes them on to the replica that leads, and tells requests which
//! certificates their peers hold the key of.

mod accept;
mod connection;
mod route;
mod silence;

use tonic::service::Routes;

pub use accept::Listener;
pub use connection::{Connection, PeerCertificates};
pub use route::Route;

/// Streams of one connection: a client has two or three, and calls now and then.
const STREAMS: u32 = 64;

/// Serves gRPC, to clients that ping as [`ursa_proto::keepalive`] says, until `shutdown` is done; then no more connections are taken and open calls may end.
pub async fn serve(
    routes: Routes,
    listener: Listener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    tonic::transport::Server::builder()
        .max_concurrent_streams(STREAMS)
        .add_routes(routes)
        .serve_with_incoming_shutdown(listener.watched().connections(), shutdown)
        .await
}
