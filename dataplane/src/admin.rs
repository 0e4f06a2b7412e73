//! Envoy's administration interface, on a Unix socket in the run folder.
//! Source: <https://www.envoyproxy.io/docs/envoy/latest/operations/admin>.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::config::AdminArgs;
use crate::files::{FileError, socket_path};
use crate::http1::{self, Response};

/// Envoy's main thread may be busy; longer than this it is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// What people ask for may be long: the configuration of a proxy that calls a thousand services.
const LONG_ANSWER_WITHIN: Duration = Duration::from_secs(20);
const LONG_ANSWER: u64 = 256 << 20;

/// Where it is, of a proxy with this folder for sockets.
pub fn socket(run_dir: &Path) -> Result<PathBuf, FileError> {
    socket_path(run_dir, "admin.sock")
}

/// What the Envoy of a proxy that runs here says to a person.
pub async fn ask(arguments: &AdminArgs) -> anyhow::Result<String> {
    let AdminArgs { run_dir, path } = arguments;
    let is_path = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
    anyhow::ensure!(is_path, "{path:?} is no path of Envoy's administration interface: try /help");
    let socket = socket(run_dir)?;
    let said = Admin::new(socket.clone()).read(path).await;
    said.with_context(|| {
        format!("cannot ask Envoy at {} (does the proxy run here, as this user?)", socket.display())
    })
}

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

    /// What Envoy says under a path, such as `/config_dump`, which has no private keys. It is only read: Envoy wants `POST` for
    /// what changes something.
    pub async fn read(&self, path: &str) -> io::Result<String> {
        self.exchange("GET", path, LONG_ANSWER, LONG_ANSWER_WITHIN).await.map(|response| response.body)
    }

    async fn request(&self, method: &str, path: &str) -> io::Result<Response> {
        self.exchange(method, path, http1::MAX_RESPONSE, ANSWER_WITHIN).await
    }

    async fn exchange(&self, method: &str, path: &str, bytes: u64, within: Duration) -> io::Result<Response> {
        let exchange = async {
            let stream = UnixStream::connect(&self.socket).await?;
            http1::request_up_to(bytes, stream, method, "admin", path).await
        };
        let response = timeout(within, exchange).await??;
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
