//! The listening servers: they run until a signal, and end within a bound.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use ursa_identity::{ClientCerts, ServedCertificate};

/// How long open streams and requests may take to end.
const GRACE: Duration = Duration::from_secs(2);

pub(crate) struct Servers {
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: JoinSet<anyhow::Result<()>>,
}

impl Servers {
    pub(crate) fn http(&mut self, listener: TcpListener, router: Router) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let serving =
                axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
            tokio::select! {
                result = serving => Ok(result?),
                () = after(stop) => Ok(()),
            }
        });
    }

    pub(crate) fn https(
        &mut self,
        listener: TcpListener,
        router: Router,
        tls: &ServedCertificate,
    ) -> anyhow::Result<()> {
        let config = tls.rustls_server_config(ClientCerts::None, &[b"h2", b"http/1.1"])?;
        let config = axum_server::tls_rustls::RustlsConfig::from_config(config);
        let handle = axum_server::Handle::new();
        let server = axum_server::from_tcp_rustls(listener.into_std()?, config)?.handle(handle.clone());
        let stop = self.stop.clone();
        tokio::spawn(async move {
            stop.cancelled().await;
            handle.graceful_shutdown(Some(GRACE));
        });
        self.tasks.spawn(async move { Ok(server.serve(router.into_make_service()).await?) });
        Ok(())
    }

    pub(crate) fn grpc(
        &mut self,
        listener: TcpListener,
        routes: tonic::service::Routes,
        tls: &ServedCertificate,
    ) -> anyhow::Result<()> {
        let config: Arc<rustls::ServerConfig> = tls.rustls_server_config(ClientCerts::Requested, &[b"h2"])?;
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let serving = ursa_listen::serve(routes, listener, config, stop.clone().cancelled_owned());
            tokio::select! {
                result = serving => result.context("a gRPC server failed"),
                // Streams of agents and zones never end by themselves.
                () = after(stop) => Ok(()),
            }
        });
        Ok(())
    }

    /// Until SIGTERM or SIGINT; a server that ends before is an error.
    pub(crate) async fn until_signal(&mut self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            Some(result) = self.tasks.join_next() => match result? {
                Ok(()) => Err(anyhow::anyhow!("a server ended by itself")),
                Err(error) => Err(error),
            },
        }
    }

    pub(crate) async fn stop(self) {
        tracing::info!("stopping");
        self.stop.cancel();
        let _ = tokio::time::timeout(GRACE * 2, self.tasks.join_all()).await;
    }
}

async fn after(stop: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(GRACE).await;
}
