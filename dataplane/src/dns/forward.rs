//! Asks the system's resolvers, in bytes as the client sent them but for the transaction id.
//!
//! Invariant: an answer is taken only from the resolver that was asked, on the socket that asked it, and if its
//! transaction id and its question are those asked.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use hickory_proto::op::{Header, MessageType, Query, ResponseCode};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::debug;

use crate::dns::answer::{Transport, question, truncated};
use crate::dns::resolv_conf::Resolvers;

/// How often each resolver is asked.
const ROUNDS: usize = 2;

/// Questions that may be open at once.
const MAX_OPEN: usize = 256;

/// Larger answers by UDP than anybody should send; the client is told to ask by TCP.
const MAX_UDP: usize = 4096;

/// Passes questions on.
#[derive(Debug)]
pub struct Forwarder {
    resolvers: Resolvers,
    patience: Duration,
    give_up: Duration,
    open: Semaphore,
}

impl Forwarder {
    /// To these resolvers; after `patience` without an answer the next one is asked too, and after `give_up` none.
    pub fn new(resolvers: Resolvers, patience: Duration, give_up: Duration) -> Self {
        Self { resolvers, patience, give_up, open: Semaphore::new(MAX_OPEN) }
    }

    /// The answer to a request with this question; `None` if there is none in time, or too much is open.
    pub async fn forward(&self, request: &[u8], query: &Query, transport: Transport) -> Option<Vec<u8>> {
        let Ok(_permit) = self.open.try_acquire() else {
            debug!("too many questions are open");
            return None;
        };
        let resolvers = self.resolvers.current().await;
        let asked = resolvers.iter().cycle().take(resolvers.len() * ROUNDS).map(
            |resolver| -> BoxFuture<'_, io::Result<Vec<u8>>> {
                match transport {
                    Transport::Udp => Box::pin(ask_udp(*resolver, request, query)),
                    Transport::Tcp => Box::pin(ask_tcp(*resolver, request, query)),
                }
            },
        );
        let mut answer = first(asked, self.patience, Instant::now() + self.give_up).await?;
        answer.get_mut(..2)?.copy_from_slice(request.get(..2)?);
        Some(answer)
    }
}

/// The first good answer; else one that says that its resolver cannot answer. Earlier ones may still come while later
/// ones are asked.
async fn first<'a>(
    mut asked: impl Iterator<Item = BoxFuture<'a, io::Result<Vec<u8>>>>,
    patience: Duration,
    end: Instant,
) -> Option<Vec<u8>> {
    let mut more = true;
    let mut second_best: Option<Vec<u8>> = None;
    let mut open: FuturesUnordered<BoxFuture<'a, io::Result<Vec<u8>>>> = FuturesUnordered::new();
    let mut next = interval(patience);
    next.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while more || !open.is_empty() {
        tokio::select! {
            () = sleep_until(end) => break,
            Some(result) = open.next() => {
                match result {
                    Ok(answer) if !is_failure(&answer) => return Some(answer),
                    Ok(answer) => second_best = Some(answer),
                    Err(error) => debug!(%error, "a resolver did not answer"),
                }
                next.reset_immediately();
            }
            _ = next.tick(), if more => match asked.next() {
                Some(ask) => open.push(ask),
                None => more = false,
            },
        }
    }
    second_best
}

async fn ask_udp(resolver: SocketAddr, request: &[u8], query: &Query) -> io::Result<Vec<u8>> {
    let any =
        if resolver.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?; // The system takes a port by chance.
    socket.connect(resolver).await?;
    let (id, renamed) = renamed(request);
    socket.send(&renamed).await?;
    let mut buffer = vec![0; MAX_UDP + 1];
    loop {
        let read = socket.recv(&mut buffer).await?;
        if !answers(&buffer[..read], id, query) {
            debug!(%resolver, "took no answer to another question");
            continue;
        }
        if read <= MAX_UDP {
            buffer.truncate(read);
            return Ok(buffer);
        }
        return truncated(request).ok_or_else(|| io::Error::other("the answer is too large"));
    }
}

async fn ask_tcp(resolver: SocketAddr, request: &[u8], query: &Query) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let (id, renamed) = renamed(request);
    write_frame(&mut stream, &renamed).await?;
    let answer = read_frame(&mut stream).await?;
    if answers(&answer, id, query) {
        Ok(answer)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is to another question"))
    }
}

/// A message on a TCP connection.
pub(super) async fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Sends length and message at once: some clients take the first segment for the whole.
pub(super) async fn write_frame(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes()[..], message].concat()).await
}

/// The request under a transaction id of its own.
fn renamed(request: &[u8]) -> (u16, Vec<u8>) {
    let id: u16 = rand::random();
    (id, [&id.to_be_bytes()[..], request.get(2..).unwrap_or_default()].concat())
}

/// Whether these bytes answer what was asked. Some resolvers leave the question out where they refuse it.
fn answers(bytes: &[u8], id: u16, asked: &Query) -> bool {
    let Ok(header) = Header::read(&mut BinDecoder::new(bytes)) else { return false };
    let to_us = header.message_type == MessageType::Response && header.id == id;
    let refused = header.counts.queries == 0 && header.response_code != ResponseCode::NoError;
    to_us && (refused || question(bytes).is_some_and(|question| question == *asked))
}

/// Whether another resolver may know more.
fn is_failure(answer: &[u8]) -> bool {
    use ResponseCode::{FormErr, NotImp, Refused, ServFail};
    let header = Header::read(&mut BinDecoder::new(answer));
    header.is_ok_and(|header| matches!(header.response_code, ServFail | Refused | NotImp | FormErr))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use hickory_proto::rr::{Name, RecordType};
    use proptest::prelude::*;

    use super::*;

    fn query() -> Query {
        Query::query(Name::from_ascii("example.com.").unwrap(), RecordType::A)
    }

    #[tokio::test]
    async fn too_many_questions_are_not_asked() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let patience = Duration::from_mins(1);
        let forwarder =
            Forwarder::new(Resolvers::new(file.path().into(), 53, Vec::new()), patience, patience);
        let query = query();
        let ask = || Box::pin(forwarder.forward(b"any", &query, Transport::Udp));
        let mut open: Vec<_> = (0..MAX_OPEN).map(|_| ask()).collect();
        for asked in &mut open {
            assert!(futures::poll!(asked).is_pending());
        }
        assert_eq!(ask().now_or_never(), Some(None));
        open.pop();
        assert_eq!(ask().now_or_never(), None);
    }

    proptest! {
        #[test]
        fn no_answer_harms(bytes in prop::collection::vec(any::<u8>(), 0..600), id: u16) {
            prop_assert!(!answers(&bytes, id, &query()) || bytes.starts_with(&id.to_be_bytes()));
            is_failure(&bytes);
        }
    }
}
