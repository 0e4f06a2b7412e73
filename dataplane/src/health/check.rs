//! Runs a probe as the kubelet would, at the application's own port: past the proxy.
//! Source: Kubernetes, `pkg/probe`.

mod grpc;
mod http;
mod tls;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::health::probes::{Action, Probe};

/// The sources from which a proxy reaches its own workload: what comes from there is not captured.
const DELIVERY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
const DELIVERY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6));

/// What the application sees of who asks.
const USER_AGENT: &str = concat!("kube-probe/ursa-dp-", env!("CARGO_PKG_VERSION"));

/// Runs a probe once; the error is for people.
pub async fn check(probe: &Probe, application: IpAddr) -> Result<(), String> {
    let Probe { action, timeout: limit } = probe;
    let run = async {
        match action {
            Action::Http(request) => http::check(request, application).await,
            Action::Tcp(port) => {
                connect(SocketAddr::new(application, *port)).await?;
                Ok(())
            }
            Action::Grpc { port, service } => grpc::check(SocketAddr::new(application, *port), service).await,
        }
    };
    timeout(*limit, Box::pin(run)).await.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let connect = async {
        let (socket, source) = match address {
            SocketAddr::V4(_) => (TcpSocket::new_v4()?, DELIVERY_V4),
            SocketAddr::V6(_) => (TcpSocket::new_v6()?, DELIVERY_V6),
        };
        // Where nothing is captured there may be no such address, and no need of it.
        let _ = socket.bind(SocketAddr::new(source, 0));
        socket.connect(address).await
    };
    connect.await.map_err(|error: io::Error| format!("cannot connect to {address}: {error}"))
}

#[cfg(test)]
mod tests;
