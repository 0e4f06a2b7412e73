//! Just enough of the Redis protocol: commands in one write over a connection of their own, and their replies.
//!
//! Invariant: whatever the other side sends, memory is bounded and the call ends by its deadline.
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::timeout;

/// The longest line and the longest text that are read.
const LIMIT: usize = 64 * 1024;

/// A reply to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A number.
    Integer(i64),
    /// A status or a value.
    Text(String),
    /// No value.
    Nil,
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The connection was not made.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// The connection was closed before the replies were complete.
    #[error("the connection was closed before an answer came")]
    Closed,
    /// Nothing, or not all, came in time.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// Redis refused a command; in its words.
    #[error("refused: {0}")]
    Refused(String),
    /// What came is not what was asked for, or not the protocol.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
}

/// Sends the commands over a new connection and reads a reply to each, in order, all within the limit.
pub async fn call(
    address: impl ToSocketAddrs,
    commands: &[&[&str]],
    limit: Duration,
) -> Result<Vec<Reply>, RedisError> {
    timeout(limit, exchange(address, commands)).await.unwrap_or(Err(RedisError::TimedOut(limit)))
}

async fn exchange(address: impl ToSocketAddrs, commands: &[&[&str]]) -> Result<Vec<Reply>, RedisError> {
    let mut stream = TcpStream::connect(address).await.map_err(RedisError::Connect)?;
    stream.write_all(&encode(commands)).await.map_err(RedisError::Broken)?;
    let mut reader = BufReader::new(stream);
    let mut replies = Vec::with_capacity(commands.len());
    for _ in commands {
        replies.push(reply(&mut reader).await?);
    }
    Ok(replies)
}

fn encode(commands: &[&[&str]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for words in commands {
        bytes.extend(format!("*{}\r\n", words.len()).bytes());
        for word in *words {
            bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
        }
    }
    bytes
}

async fn reply(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<Reply, RedisError> {
    let line = line(reader).await?;
    let mut chars = line.chars();
    let sort = chars.next();
    let rest = chars.as_str();
    match sort {
        Some(':') => rest.parse().map(Reply::Integer).map_err(|_| strange(&line)),
        Some('+') => Ok(Reply::Text(rest.to_owned())),
        Some('-') => Err(RedisError::Refused(rest.chars().take(200).collect())),
        Some('$') if rest == "-1" => Ok(Reply::Nil),
        Some('$') => {
            let length = rest.parse().ok().filter(|length| *length <= LIMIT).ok_or_else(|| strange(&line))?;
            text(reader, length).await.map(Reply::Text)
        }
        _ => Err(strange(&line)),
    }
}

/// A line without its end.
async fn line(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<String, RedisError> {
    let mut bytes = Vec::new();
    let bound = LIMIT as u64;
    reader.take(bound).read_until(b'\n', &mut bytes).await.map_err(RedisError::Broken)?;
    match bytes.strip_suffix(b"\r\n") {
        Some(line) => String::from_utf8(line.to_vec()).map_err(|_| RedisError::Unexpected("not text".into())),
        None if bytes.len() < LIMIT && !bytes.ends_with(b"\n") => Err(RedisError::Closed),
        None => Err(strange(&String::from_utf8_lossy(&bytes))),
    }
}

/// A text of a length that was announced, with the line end behind it.
async fn text(reader: &mut (impl AsyncBufRead + Unpin), length: usize) -> Result<String, RedisError> {
    let mut bytes = vec![0; length + 2];
    reader.read_exact(&mut bytes).await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => RedisError::Closed,
        _ => RedisError::Broken(error),
    })?;
    let text = bytes.strip_suffix(b"\r\n").ok_or_else(|| strange("a text longer than announced"))?;
    String::from_utf8(text.to_vec()).map_err(|_| RedisError::Unexpected("not text".into()))
}

fn strange(what: &str) -> RedisError {
    let start: String = what.chars().take(60).flat_map(char::escape_debug).collect();
    RedisError::Unexpected(format!("not the Redis protocol: {start}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<Reply, String> {
        reply(&mut BufReader::new(bytes)).await.map_err(|error| error.to_string())
    }

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        let bytes = encode(&[&["INCR", "counter"], &["GET", "zone"]]);
        assert_eq!(bytes, b"*2\r\n$4\r\nINCR\r\n$7\r\ncounter\r\n*2\r\n$3\r\nGET\r\n$4\r\nzone\r\n");
    }

    #[tokio::test]
    async fn replies_of_every_sort_are_read() {
        assert_eq!(read(b":-7\r\n").await, Ok(Reply::Integer(-7)));
        assert_eq!(read(b"+OK\r\n").await, Ok(Reply::Text("OK".into())));
        assert_eq!(read(b"$3\r\naws\r\n").await, Ok(Reply::Text("aws".into())));
        assert_eq!(read(b"$0\r\n\r\n").await, Ok(Reply::Text(String::new())));
        assert_eq!(read(b"$-1\r\n").await, Ok(Reply::Nil));
        assert_eq!(read(b"-ERR no\r\n").await, Err("refused: ERR no".into()));
    }

    #[tokio::test]
    async fn what_is_not_the_protocol_is_an_error_that_shows_its_start() {
        for (bytes, start) in [
            (&b"HTTP/1.1 400 Bad Request\r\n"[..], "unexpected answer: not the Redis protocol: HTTP/1.1"),
            (b"hello\n", "unexpected answer"),
            (b"\r\n", "unexpected answer"),
            (b":x\r\n", "unexpected answer"),
            (b"$99999999999\r\n", "unexpected answer"),
            (b"$-2\r\n", "unexpected answer"),
            (b"$3\r\nawsX\r\n", "unexpected answer"),
            (b"+\xff\r\n", "unexpected answer: not text"),
            (b"", "the connection was closed"),
            (b":12", "the connection was closed"),
            (b"$3\r\naw", "the connection was closed"),
        ] {
            let error = read(bytes).await.expect_err("no reply");
            assert!(error.starts_with(start), "{bytes:?}: {error}");
        }
        let endless = vec![b'a'; 10 * LIMIT];
        assert!(read(&endless).await.unwrap_err().starts_with("unexpected answer"));
    }
}
