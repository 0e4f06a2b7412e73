//! Of several replicas the one that leads serves. The others pass on what they accept, byte for byte: TLS is between the
//! client and the leader, which has the same certificate.
//!
//! Invariant: what was passed on ends when another replica leads, so that clients come back and reach that one.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

/// The leader is in the same cluster.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// Where connections are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// By this process.
    Here,
    /// By the process that listens there.
    At(SocketAddr),
    /// By nobody at the moment: they are closed.
    Nowhere,
}

/// Passes a connection on until one of its ends closes it or the route changes.
pub(crate) async fn pass_on(
    mut stream: TcpStream,
    peer: SocketAddr,
    leader: SocketAddr,
    mut route: watch::Receiver<Route>,
) {
    let passing = async {
        let mut there = match timeout(CONNECT_WITHIN, TcpStream::connect(leader)).await {
            Ok(Ok(there)) => there,
            Ok(Err(error)) => {
                tracing::warn!(%peer, %leader, %error, "cannot pass a connection on to the replica that leads");
                return;
            }
            Err(_) => {
                tracing::warn!(%peer, %leader, "the replica that leads takes no connections");
                return;
            }
        };
        let _ = (stream.set_nodelay(true), there.set_nodelay(true));
        if let Err(error) = copy_bidirectional(&mut stream, &mut there).await {
            tracing::debug!(%peer, %leader, %error, "a connection that was passed on broke");
        }
    };
    tokio::select! {
        () = passing => {}
        _ = route.wait_for(|route| *route != Route::At(leader)) => {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_is_passed_on_until_another_leads() {
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let back = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let leader = back.local_addr().unwrap();
        let (sender, route) = watch::channel(Route::At(leader));
        let mut client = TcpStream::connect(front.local_addr().unwrap()).await.unwrap();
        let (accepted, peer) = front.accept().await.unwrap();
        let passing = tokio::spawn(pass_on(accepted, peer, leader, route));
        let (mut served, _) = back.accept().await.unwrap();
        client.write_all(b"ask").await.unwrap();
        let mut heard = [0; 3];
        served.read_exact(&mut heard).await.unwrap();
        served.write_all(b"say").await.unwrap();
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"say");
        sender.send_replace(Route::At(leader));
        assert!(!passing.is_finished());
        sender.send_replace(Route::Nowhere);
        passing.await.unwrap();
        assert!(matches!(client.read(&mut heard).await, Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn a_leader_that_is_not_there_ends_the_connection() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(front.local_addr().unwrap()).await.unwrap();
        let (accepted, peer) = front.accept().await.unwrap();
        pass_on(accepted, peer, gone, watch::channel(Route::At(gone)).1).await;
        assert!(matches!(client.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    }
}
