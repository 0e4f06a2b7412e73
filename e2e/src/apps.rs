//! Applications behind and in front of proxies.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How long one call may take.
const CALL: Duration = Duration::from_secs(3);

/// A server that speaks first: it writes its name and closes. Ends when dropped.
#[derive(Debug)]
pub struct Banner(JoinHandle<()>);

impl Banner {
    /// Listens at this address.
    pub async fn start(address: SocketAddr, name: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let banner = format!("{name}\n");
        Ok(Self(tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let banner = banner.clone();
                tokio::spawn(async move {
                    let _ = stream.write_all(banner.as_bytes()).await;
                    let _ = stream.shutdown().await;
                    let _ = stream.read(&mut [0; 1]).await;
                });
            }
        })))
    }
}

impl Drop for Banner {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects and reads until the other side closes; what was read, whole lines and all.
pub async fn call(address: SocketAddr) -> anyhow::Result<String> {
    let read = async {
        let mut stream = TcpStream::connect(address).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        anyhow::Ok(text)
    };
    tokio::time::timeout(CALL, read).await?
}

/// The name of the [`Banner`] that answered; an error if nothing did.
pub async fn answer(address: SocketAddr) -> anyhow::Result<String> {
    let text = call(address).await?;
    anyhow::ensure!(text.ends_with('\n'), "the connection was closed after {text:?}");
    Ok(text.trim_end().to_owned())
}

/// Fails if even one byte comes back.
pub async fn refused(address: SocketAddr) -> anyhow::Result<()> {
    match call(address).await {
        Ok(text) if text.is_empty() => Ok(()),
        Ok(text) => anyhow::bail!("got {text:?}"),
        Err(error) if error.is::<tokio::time::error::Elapsed>() => Err(error),
        Err(_) => Ok(()),
    }
}

/// Speaks plaintext to a port that wants TLS: fails if anything but a TLS alert (RFC 8446 §6) comes back.
pub async fn refused_plaintext(address: SocketAddr) -> anyhow::Result<()> {
    const ALERT: u8 = 21;
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut bytes = Vec::new();
        // A reset is as good as an end.
        let _ = stream.read_to_end(&mut bytes).await;
        anyhow::ensure!(
            bytes.first().is_none_or(|first| *first == ALERT),
            "got {:?}",
            String::from_utf8_lossy(&bytes)
        );
        Ok(())
    };
    tokio::time::timeout(CALL, exchange).await?
}

/// A server that sends back what it gets, as long as the connection lasts. Ends when dropped.
#[derive(Debug)]
pub struct Echo(JoinHandle<()>);

impl Echo {
    /// Listens at this address.
    pub async fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self(tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        })))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection to an [`Echo`] that is kept open.
#[derive(Debug)]
pub struct Conversation(TcpStream);

impl Conversation {
    /// Connects.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let mut conversation = Self(TcpStream::connect(address).await?);
        conversation.say("hello").await?;
        Ok(conversation)
    }

    /// Says a word, and fails unless it comes back.
    pub async fn say(&mut self, word: &str) -> anyhow::Result<()> {
        let exchange = async {
            self.0.write_all(word.as_bytes()).await?;
            let mut back = vec![0; word.len()];
            self.0.read_exact(&mut back).await?;
            anyhow::ensure!(back == word.as_bytes(), "{word:?} came back as {back:?}");
            Ok(())
        };
        tokio::time::timeout(CALL, exchange).await?
    }
}
