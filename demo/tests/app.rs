//! The counter application against a real Redis, and against everything that a network may put in its place.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use ursa_demo::app::{self, AppArgs};

/// What every request keeps to.
const LIMIT: Duration = Duration::from_secs(2);

/// Serves the application before this Redis; where it listens.
async fn serve(redis: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = listener.local_addr().unwrap();
    let args = AppArgs { listen, redis: redis.to_string(), zone: "here".into(), version: "v7".into() };
    tokio::spawn(async move { axum::serve(listener, app::router(&args)).await });
    listen
}

async fn request(app: SocketAddr, head: &str) -> (u16, String, Duration) {
    let from = Instant::now();
    let mut stream = TcpStream::connect(app).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (status, body, from.elapsed())
}

async fn get(app: SocketAddr, path: &str) -> (u16, String, Duration) {
    request(app, &format!("GET {path} HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n")).await
}

async fn increment(app: SocketAddr) -> (u16, Value, Duration) {
    let (status, body, took) = request(
        app,
        "POST /increment HTTP/1.1\r\nhost: app\r\nconnection: close\r\ncontent-length: 6\r\n\r\nwhat\0x",
    )
    .await;
    (status, serde_json::from_str(&body).unwrap(), took)
}

/// A server that answers each connection by these bytes, after reading something, and then does as told.
async fn impostor(answer: &'static [u8], then_close: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer).await;
            if !then_close {
                open.push(stream);
            }
        }
    });
    address
}

struct Redis(Child);

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A real Redis without a zone's name.
async fn redis() -> (Redis, SocketAddr) {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("app-redis");
    std::fs::create_dir_all(&folder).unwrap();
    let child = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &free.port().to_string(), "--save", "", "--dir"])
        .arg(&folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is in PATH (scripts/install-redis)");
    let redis = Redis(child);
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(error) = app::call(free, &[&["PING"]], LIMIT).await {
        assert!(Instant::now() < deadline, "redis does not answer: {error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (redis, free)
}

#[tokio::test]
async fn it_counts_in_a_real_redis_and_says_whose_it_is() {
    let (_redis, address) = redis().await;
    let app = serve(address).await;

    let (status, body, _) = increment(app).await;
    assert_eq!(status, 503, "the zone is not set yet");
    assert!(body["error"].as_str().unwrap().contains("the key zone is not set"), "{body}");

    app::call(address, &[&["SET", "zone", "aws"], &["SET", "counter", "41"]], LIMIT).await.unwrap();
    let expected = json!({"counter": 42, "zone": "aws", "app": {"zone": "here", "version": "v7"}});
    let (status, body, _) = increment(app).await;
    assert_eq!((status, &body), (200, &expected));
    let (status, body, _) = get(app, "/counter").await;
    assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()), (200, expected));

    app::call(address, &[&["SET", "counter", "many"]], LIMIT).await.unwrap();
    let (status, body, _) = increment(app).await;
    assert_eq!(status, 503);
    assert!(body["error"].as_str().unwrap().contains("refused: ERR value is not an integer"), "{body}");
}

#[tokio::test]
async fn it_counts_from_zero_before_the_first_increment() {
    let (_redis, address) = redis().await;
    app::call(address, &[&["SET", "zone", "aws"]], LIMIT).await.unwrap();
    let (status, body, _) = get(serve(address).await, "/counter").await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["counter"], 0);
}

#[tokio::test]
async fn whatever_answers_in_the_place_of_redis_it_says_so_in_time() {
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (redis, reason) in [
        (refused, "cannot connect"),
        (impostor(b"", true).await, "closed before an answer"),
        (impostor(b"", false).await, "no answer within 1800 ms"),
        (impostor(b":1\r\n", false).await, "no answer within 1800 ms"),
        (impostor(b"$5\r\nab", true).await, "closed before an answer"),
        (
            impostor(b"HTTP/1.1 503 Service Unavailable\r\n\r\n", false).await,
            "not the Redis protocol: HTTP/1.1 503",
        ),
        (impostor(b"\x16\x03\x03\0\x01\r\n", false).await, "not the Redis protocol"),
        (impostor(b"$4000000000\r\n", false).await, "not the Redis protocol"),
        (impostor(b":1\r\n$-1\r\n", false).await, "the key zone is not set"),
    ] {
        let (status, body, took) = increment(serve(redis).await).await;
        assert_eq!(status, 503, "{reason}: {body}");
        assert!(body["error"].as_str().unwrap().contains(reason), "{reason}: {body}");
        assert!(took < LIMIT, "{reason}: answered after {took:?}");
    }
}

#[tokio::test]
async fn a_body_that_never_comes_holds_up_nothing() {
    let (_redis, address) = redis().await;
    app::call(address, &[&["SET", "zone", "aws"]], LIMIT).await.unwrap();
    let head =
        "POST /increment HTTP/1.1\r\nhost: app\r\nconnection: close\r\ncontent-length: 1000000\r\n\r\n";
    let (status, _, took) = request(serve(address).await, head).await;
    assert_eq!(status, 200);
    assert!(took < LIMIT, "answered after {took:?}");
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let app = serve("127.0.0.1:1".parse().unwrap()).await;
    let (status, page, _) = get(app, "/").await;
    assert_eq!(status, 200);
    assert!(
        page.contains("<strong>here</strong>") && page.contains("<strong>v7</strong>"),
        "whose page it is: {page}"
    );
    assert!(page.contains("Increment") && page.contains("Generate traffic"));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="), "{page}");
}
