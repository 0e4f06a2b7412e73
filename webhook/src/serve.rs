//! The server for the API server: TLS, with whatever certificate is in force when a connection begins.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;

use crate::certificate::Tls;

/// How long a client may take to say what it asks.
const HEAD_BOUND: Duration = Duration::from_secs(10);
/// After how long without a word a connection is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Serves from the first certificate on, until the handle says otherwise.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    mut tls: Tls,
    handle: Handle<SocketAddr>,
) -> anyhow::Result<()> {
    let first = tls.wait_for(Option::is_some).await?.clone().expect("it was waited for");
    let config = RustlsConfig::from_config(first);
    let reloaded = config.clone();
    tokio::spawn(async move {
        while tls.changed().await.is_ok() {
            if let Some(next) = tls.borrow_and_update().clone() {
                reloaded.reload_from_config(next);
            }
        }
    });
    let mut server = axum_server::from_tcp_rustls(listener.into_std()?, config)?
        .handle(handle)
        .first_request_timeout(HEAD_BOUND);
    let builder = server.http_builder();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_BOUND);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(KEEP_ALIVE);
    server.serve(router.into_make_service()).await.context("the server failed")
}
