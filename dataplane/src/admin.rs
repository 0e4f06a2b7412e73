//! Envoy's administration interface, on a Unix socket in the run folder.
//! Source: <https://www.envoyproxy.io/docs/envoy/latest/operations/admin>.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::http1::{self, Response};

/// Envoy's main thread may be busy; longer than this it is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The interface of one Envoy.
#[derive(Clone, Debug)]
pub struct Admin {
    socket: PathBuf,
}

impl Admin {
    /// At this socket.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Begins to drain what callers connect to: accepted until the drain time is over, but connections are asked to
    /// end.
    pub async fn drain_inbound(&self) -> io::Result<()> {
        self.request("POST", "/drain_listeners?graceful&inboundonly").await.map(drop)
    }

    /// Closes all listeners; connections that are open stay.
    pub async fn stop_listeners(&self) -> io::Result<()> {
        self.request("POST", "/drain_listeners").await.map(drop)
    }

    /// How many connections of the workload or its callers are open.
    pub async fn open_connections(&self) -> io::Result<u64> {
        let stats = self.request("GET", "/stats?filter=^listener\\..*downstream_cx_active$").await?;
        Ok(sum_connections(&stats.body))
    }

    async fn request(&self, method: &str, path: &str) -> io::Result<Response> {
        let exchange = async {
            let stream = UnixStream::connect(&self.socket).await?;
            http1::request(stream, method, "admin", path).await
        };
        let response = timeout(ANSWER_WITHIN, exchange).await??;
        if response.status == 200 {
            Ok(response)
        } else {
            Err(io::Error::other(format!("Envoy answered {method} {path} with status {}", response.status)))
        }
    }
}

/// Of all listeners but the administration's own; a listener's number is the sum of its workers'.
fn sum_connections(stats: &str) -> u64 {
    stats
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| {
            !name.starts_with("listener.admin.")
                && !name.contains(".worker_")
                && !name.contains(".main_thread.")
        })
        .filter_map(|(_, value)| value.trim().parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_once() {
        let stats = "\
listener.127.0.0.1_1234.downstream_cx_active: 3
listener.127.0.0.1_1234.worker_0.downstream_cx_active: 1
listener.127.0.0.1_1234.worker_1.downstream_cx_active: 2
listener.10.0.0.1_80.downstream_cx_active: 4
listener.admin.downstream_cx_active: 1
listener.admin.main_thread.downstream_cx_active: 1
";
        assert_eq!(sum_connections(stats), 7);
    }
}
