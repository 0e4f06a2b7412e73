//! Of several replicas the one that leads serves. The others pass on what they accept, byte for byte: TLS is between the
//! client and the leader, which has the same certificate.
//!
//! Invariants: what was passed on ends when another replica leads, so that clients come back and reach that one. What
//! was not yet waits, within a bound, until the replica that leads is reached: a change of the lead is no client's matter.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How long a connection may wait for a replica that leads. A change of the lead is known everywhere after some two seconds;
/// the Lease of a leader that was killed lasts longer, and clients come back.
pub(crate) const LED_WITHIN: Duration = Duration::from_secs(10);
/// One attempt: the leader is in the same cluster.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Between two attempts to reach the same leader.
const PAUSE: Duration = Duration::from_millis(200);

/// Where connections are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// By this process.
    Here,
    /// By the process that listens there.
    At(SocketAddr),
    /// By nobody at the moment: they wait.
    Nowhere,
}

/// The replica that leads, and so serves.
#[derive(Debug)]
pub(crate) enum Leader {
    /// This one.
    Here,
    /// The one at this address, reached by this connection.
    There(SocketAddr, TcpStream),
}

/// The one that serves what this `peer` opened, once it is reached; `None` if that takes longer than `within`.
pub(crate) async fn leader(
    peer: SocketAddr,
    route: &mut watch::Receiver<Route>,
    within: Duration,
) -> Option<Leader> {
    let mut last = None;
    let found = async {
        loop {
            let now = *route.borrow_and_update();
            tokio::select! {
                biased;
                // When nobody can change it any more, the route stays.
                Ok(()) = route.changed() => {}
                leader = reached(now, &mut last) => return leader,
            }
        }
    };
    let found = timeout(within, found).await.ok();
    match (&found, last) {
        (Some(_), _) => {}
        (None, Some((leader, error))) => tracing::warn!(
            %peer, %leader, %error,
            "closed a connection: the replica that leads was not reached within {within:?}"
        ),
        (None, None) => tracing::warn!(%peer, "closed a connection: no replica has led for {within:?}"),
    }
    found
}

/// The leader by this route, as soon as it is reached. `last`: the last attempt that failed.
async fn reached(route: Route, last: &mut Option<(SocketAddr, io::Error)>) -> Leader {
    let leader = match route {
        Route::Here => return Leader::Here,
        Route::At(leader) => leader,
        Route::Nowhere => {
            *last = None;
            return std::future::pending().await;
        }
    };
    loop {
        let attempt = timeout(CONNECT_WITHIN, TcpStream::connect(leader)).await;
        match attempt.unwrap_or_else(|late| Err(late.into())) {
            Ok(there) => return Leader::There(leader, there),
            Err(error) => {
                tracing::debug!(%leader, %error, "the replica that leads is not reached yet");
                *last = Some((leader, error));
            }
        }
        sleep(PAUSE).await;
    }
}

/// Passes a connection on, over `there` to `leader`, until one of its ends closes it or another one leads.
pub(crate) async fn pass_on(
    mut stream: TcpStream,
    peer: SocketAddr,
    leader: SocketAddr,
    mut there: TcpStream,
    mut route: watch::Receiver<Route>,
) {
    let _ = (stream.set_nodelay(true), there.set_nodelay(true));
    tokio::select! {
        passed = copy_bidirectional(&mut stream, &mut there) => if let Err(error) = passed {
            tracing::debug!(%peer, %leader, %error, "a connection that was passed on broke");
        },
        _ = route.wait_for(|route| *route != Route::At(leader)) => {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::task::JoinHandle;

    use super::*;

    const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);
    /// What is expected happens much earlier.
    const SOON: Duration = Duration::from_secs(20);
    const BRIEF: Duration = Duration::from_millis(700);

    async fn listening() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Connections there are refused, as long as the socket does not listen.
    fn gone() -> (TcpSocket, SocketAddr) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    /// Waits for the leader; has looked once when this returns.
    async fn waiting(mut route: watch::Receiver<Route>) -> JoinHandle<Option<Leader>> {
        let waiting = tokio::spawn(async move { leader(PEER, &mut route, SOON).await });
        // What waits has been polled, since it was spawned before on the only thread.
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        waiting
    }

    fn is_there(found: Option<&Leader>, expected: SocketAddr) -> bool {
        matches!(found, Some(Leader::There(leader, stream))
            if *leader == expected && stream.peer_addr().is_ok_and(|address| address == expected))
    }

    #[tokio::test]
    async fn a_connection_is_passed_on_until_another_leads() {
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (back, address) = listening().await;
        let (sender, mut route) = watch::channel(Route::At(address));
        let mut client = TcpStream::connect(front.local_addr().unwrap()).await.unwrap();
        let (accepted, peer) = front.accept().await.unwrap();
        let passing = tokio::spawn(async move {
            let Some(Leader::There(address, there)) = leader(peer, &mut route, SOON).await else {
                unreachable!("it leads")
            };
            pass_on(accepted, peer, address, there, route).await;
        });
        let (mut served, _) = back.accept().await.unwrap();
        client.write_all(b"ask").await.unwrap();
        let mut heard = [0; 3];
        served.read_exact(&mut heard).await.unwrap();
        served.write_all(b"say").await.unwrap();
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"say");
        sender.send_replace(Route::At(address));
        assert!(!passing.is_finished());
        sender.send_replace(Route::Nowhere);
        passing.await.unwrap();
        assert!(matches!(client.read(&mut heard).await, Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn a_leader_that_is_gone_is_followed_by_the_next_one() {
        let (_listener, next) = listening().await;
        let (_silent, former) = gone();
        let (sender, route) = watch::channel(Route::At(former));
        let waiting = waiting(route).await;
        sender.send_replace(Route::At(next));
        assert!(is_there(waiting.await.unwrap().as_ref(), next));
    }

    #[tokio::test]
    async fn the_leader_that_begins_to_listen_is_reached() {
        let (socket, address) = gone();
        let (_sender, route) = watch::channel(Route::At(address));
        let waiting = waiting(route).await;
        let _listener = socket.listen(1).unwrap();
        assert!(is_there(waiting.await.unwrap().as_ref(), address));
    }

    #[tokio::test]
    async fn the_first_leader_is_awaited() {
        let (_listener, first) = listening().await;
        let (sender, route) = watch::channel(Route::Nowhere);
        let waiting = waiting(route).await;
        sender.send_replace(Route::At(first));
        assert!(is_there(waiting.await.unwrap().as_ref(), first));
    }

    #[tokio::test]
    async fn whoever_begins_to_lead_serves_what_waits() {
        let (_silent, former) = gone();
        for before in [Route::Nowhere, Route::At(former)] {
            let (sender, route) = watch::channel(before);
            let waiting = waiting(route).await;
            sender.send_replace(Route::Here);
            assert!(matches!(waiting.await.unwrap(), Some(Leader::Here)), "{before:?}");
        }
    }

    #[tokio::test]
    async fn nobody_is_awaited_for_ever() {
        let (_silent, former) = gone();
        for route in [Route::Nowhere, Route::At(former)] {
            let (_sender, mut receiver) = watch::channel(route);
            assert!(leader(PEER, &mut receiver, BRIEF).await.is_none(), "{route:?}");
            // Neither if the route can't change any more.
            let mut receiver = watch::channel(route).1;
            assert!(leader(PEER, &mut receiver, BRIEF).await.is_none(), "{route:?}");
        }
    }
}
