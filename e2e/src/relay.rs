//! A long way: what is sent through it arrives so much later, in both directions. It stands for delay in the kernel, which not
//! every machine's has.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// So much is on the way at most, in pieces of this size.
const PIECES: usize = 4096;
const PIECE: usize = 16 << 10;

/// Passes connections on as long as it lives; then it cuts them.
#[derive(Debug)]
pub(crate) struct Relay {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    /// Listens at a free port of this address.
    pub(crate) async fn start(at: IpAddr, to: SocketAddr, delay: Duration) -> std::io::Result<Self> {
        let listener = TcpListener::bind((at, 0)).await?;
        let address = listener.local_addr()?;
        let serve = async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(pass_on(stream, to, delay));
            }
        };
        Ok(Self { address, task: tokio::spawn(serve).abort_handle() })
    }
}

async fn pass_on(stream: TcpStream, to: SocketAddr, delay: Duration) -> std::io::Result<()> {
    let onward = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    onward.set_nodelay(true)?;
    let ((from_one, to_one), (from_other, to_other)) = (stream.into_split(), onward.into_split());
    tokio::try_join!(later(from_one, to_other, delay), later(from_other, to_one, delay)).map(drop)
}

async fn later(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) -> std::io::Result<()> {
    let (sender, mut pieces) = mpsc::channel(PIECES);
    let read = async move {
        loop {
            let mut piece = vec![0; PIECE];
            let length = from.read(&mut piece).await?;
            piece.truncate(length);
            if length == 0 || sender.send((Instant::now() + delay, piece)).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(drop)
}
