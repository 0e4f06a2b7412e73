//! The listening servers: they run until a signal, and end within a bound.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use ursa_listen::{Connection, Listener};

/// How long open streams and requests may take to end.
const GRACE: Duration = Duration::from_secs(2);

pub(crate) struct Servers {
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: JoinSet<anyhow::Result<()>>,
}

impl Servers {
    /// Over TLS.
    pub(crate) fn https(&mut self, listener: Listener, router: Router) -> anyhow::Result<()> {
        let address = listener.local_addr()?;
        self.http(Https { connections: listener.connections(), address }, router);
        Ok(())
    }

    /// Over what this listens for.
    pub(crate) fn http<L>(&mut self, listener: L, router: Router)
    where
        L: axum::serve::Listener<Addr: std::fmt::Debug>,
    {
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

    pub(crate) fn grpc(&mut self, listener: Listener, routes: tonic::service::Routes) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let serving = ursa_listen::serve(routes, listener, stop.clone().cancelled_owned());
            tokio::select! {
                result = serving => result.context("a gRPC server failed"),
                // Streams of agents and zones never end by themselves.
                () = after(stop) => Ok(()),
            }
        });
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

/// TLS connections for axum.
struct Https {
    connections: ReceiverStream<io::Result<Connection>>,
    address: SocketAddr,
}

impl axum::serve::Listener for Https {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.connections.next().await {
                Some(Ok(connection)) => return (connection, self.address),
                Some(Err(error)) => tracing::warn!(%error, "cannot accept connections"),
                // Only when the runtime stops.
                None => std::future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn after(stop: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(GRACE).await;
}
