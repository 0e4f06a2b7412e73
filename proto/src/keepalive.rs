//! How either end of a connection between an agent and a control plane notices that the other is gone.
//!
//! The kernels ask each other, which wakes no process. Clients ping by HTTP/2, seldom, for a process that hangs while its
//! kernel still answers; a server lets go who does not. Decision 0022 has the figures.
//! Sources: tcp(7); <https://blog.cloudflare.com/when-tcp-sockets-refuse-to-die/>.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tonic::transport::Endpoint;

/// A kernel that says nothing for so long is gone, be it that it is asked or that it acknowledges nothing.
pub const SILENCE: Duration = Duration::from_secs(4);
/// When a kernel first asks, how often then, and how many times, until [`SILENCE`] is over.
const ASK_AFTER: Duration = Duration::from_secs(2);
const ASK_EVERY: Duration = Duration::from_secs(1);
const ASKED: u32 = 2;

/// A client that hears nothing pings after this time. A server of the version before counts on it: never longer.
pub const PING_EVERY: Duration = Duration::from_secs(30);
/// How long the other process may take over the answer; and a server waits so much longer for a client's ping.
pub const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Has the kernel watch the other end of a TCP connection, or of each that is accepted where the socket listens.
pub fn watch(socket: &impl AsFd) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(ASK_AFTER).with_interval(ASK_EVERY).with_retries(ASKED);
    let socket = SockRef::from(socket);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(SILENCE))
}

/// An endpoint whose connections ping the process at the other end, also while no call is made.
pub fn pinging(endpoint: Endpoint) -> Endpoint {
    endpoint
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn must_be_watched(socket: &TcpStream) {
        let socket = SockRef::from(socket);
        assert!(socket.keepalive().unwrap());
        let (first, then, times) = (
            socket.tcp_keepalive_time().unwrap(),
            socket.tcp_keepalive_interval().unwrap(),
            socket.tcp_keepalive_retries().unwrap(),
        );
        assert_eq!(first + then * times, SILENCE);
        assert!(times >= 2, "one packet may be lost");
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(SILENCE));
    }

    #[test]
    fn what_is_dialled_and_what_is_accepted_is_watched() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        watch(&listener).unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!SockRef::from(&dialled).keepalive().unwrap());
        watch(&dialled).unwrap();
        must_be_watched(&dialled);
        must_be_watched(&listener.accept().unwrap().0);
    }
}
