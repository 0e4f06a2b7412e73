//! Callers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use axum::body::Body;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(5);

fn client(anew: bool) -> reqwest::Result<reqwest::Client> {
    let idle = if anew { 0 } else { usize::MAX };
    reqwest::Client::builder()
        .tls_certs_only([])
        .timeout(PATIENCE)
        .pool_max_idle_per_host(idle)
        .no_proxy()
        .build()
}

/// What one call came to: the answer's text, or what was wrong.
async fn ask(client: &reqwest::Client, url: &str) -> Result<String, String> {
    let answer = client.get(url).send().await.map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
    let status = answer.status();
    let body = answer.text().await.map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
    if status.is_success() { Ok(body) } else { Err(format!("status {}: {body}", status.as_u16())) }
}

pub(crate) async fn once(url: &str) -> anyhow::Result<()> {
    let body = ask(&client(true)?, url).await.map_err(anyhow::Error::msg)?;
    println!("{body}");
    Ok(())
}

pub(crate) async fn count(url: &str, times: u32, pods: bool, http2: bool) -> anyhow::Result<()> {
    let by = if pods { "pod" } else { "name" };
    let client = client(false)?;
    let mut connection = if http2 { Some(Http2::open(url).await?) } else { None };
    let mut answers: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..times {
        let body = match &mut connection {
            Some(connection) => connection.ask().await?,
            None => ask(&client, url).await.map_err(anyhow::Error::msg)?,
        };
        let answer: Value = serde_json::from_str(&body)?;
        *answers.entry(answer[by].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    println!("{}", json!(answers));
    Ok(())
}

/// One connection that speaks HTTP/2 from its first byte.
struct Http2 {
    url: String,
    sender: hyper::client::conn::http2::SendRequest<Body>,
}

impl Http2 {
    async fn open(url: &str) -> anyhow::Result<Self> {
        let uri: axum::http::Uri = url.parse()?;
        let host = uri.host().context("the URL has no host")?;
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { url: url.to_owned(), sender })
    }

    async fn ask(&mut self) -> anyhow::Result<String> {
        let request = axum::http::Request::get(&self.url).body(Body::empty())?;
        let answer = timeout(PATIENCE, self.sender.send_request(request)).await??;
        let status = answer.status();
        let body = axum::body::to_bytes(Body::new(answer.into_body()), 1 << 16).await?;
        let body = String::from_utf8_lossy(&body).into_owned();
        anyhow::ensure!(status.is_success(), "status {}: {body}", status.as_u16());
        Ok(body)
    }
}

pub(crate) async fn load(url: &str, anew: bool, callers: u32) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let (stop, client, url) = (stop.clone(), client(anew)?, url.to_owned());
        tasks.spawn(async move {
            let (mut answered, mut failures) = (0_u64, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                match ask(&client, &url).await {
                    Ok(_) => answered += 1,
                    Err(error) => failures.push(json!({"error": error, "at": now()})),
                }
            }
            (answered, failures)
        });
    }
    println!("{}", json!({"started": true}));
    told_to_stop().await;
    stop.store(true, Ordering::Relaxed);
    let (mut answered, mut failures) = (0, Vec::new());
    for (count, errors) in tasks.join_all().await {
        answered += count;
        failures.extend(errors);
    }
    let failed = failures.len();
    failures.truncate(3);
    println!("{}", json!({"answered": answered, "failed": failed, "failures": failures}));
    Ok(())
}

/// In milliseconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    u64::try_from(now).unwrap_or(u64::MAX)
}

pub(crate) async fn flips(url: &str) -> anyhow::Result<()> {
    let client = client(true)?;
    let calls = async {
        let mut before = None;
        let mut last = now();
        loop {
            let began = now();
            let error = ask(&client, url).await.err();
            let answered = error.is_none();
            if before.replace(answered) != Some(answered) {
                println!("{}", json!({"answered": answered, "at": now(), "last": last, "error": error}));
            }
            last = began;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        () = calls => {}
        () = told_to_stop() => {}
    }
    Ok(())
}

/// By the end of the standard input.
pub(crate) async fn told_to_stop() {
    let (ended, stop) = tokio::sync::oneshot::channel();
    // A thread of its own, which the end of the process need not wait for.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = ended.send(());
    });
    let _ = stop.await;
}

pub(crate) async fn listen(address: &str) -> anyhow::Result<()> {
    let connected = timeout(PATIENCE, TcpStream::connect(address)).await;
    let mut stream = match connected.context("no connection in time").and_then(|result| Ok(result?)) {
        Ok(stream) => stream,
        Err(error) => {
            println!("{}", json!({"connected": false, "error": format!("{error:#}"), "heard": ""}));
            return Ok(());
        }
    };
    let mut heard = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut heard)).await;
    let error = ended
        .map_or_else(|_| Some("nothing more in time".to_owned()), |read| read.err().map(|e| e.to_string()));
    println!("{}", json!({"connected": true, "error": error, "heard": String::from_utf8_lossy(&heard)}));
    Ok(())
}

pub(crate) async fn hold(address: &str) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let started = Instant::now();
    let mut said = false;
    let talk = async {
        let mut heard = [0; 4];
        loop {
            stream.write_all(b"ping").await?;
            stream.read_exact(&mut heard).await?;
            if !std::mem::replace(&mut said, true) {
                println!("{}", json!({"talking": true}));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let ended: std::io::Result<()> = tokio::select! {
        ended = talk => ended,
        () = told_to_stop() => Ok(()),
    };
    let error = ended.err().map(|error| error.to_string());
    println!(
        "{}",
        json!({"cut": error.is_some(), "error": error, "milliseconds": started.elapsed().as_millis()})
    );
    Ok(())
}

pub(crate) async fn hold_http(address: &str) -> anyhow::Result<()> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut answered = 0_u64;
    let status = loop {
        let request = axum::http::Request::get("/").header("host", address).body(Body::empty())?;
        // Fails if the connection has ended: another one is not opened.
        let answer = timeout(PATIENCE, sender.send_request(request)).await??;
        let status = answer.status();
        axum::body::to_bytes(Body::new(answer.into_body()), 1 << 16).await?;
        if !status.is_success() {
            break status.as_u16();
        }
        answered += 1;
        if answered == 1 {
            println!("{}", json!({"talking": true}));
        }
        sender.ready().await?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    println!("{}", json!({"answered": answered, "status": status}));
    Ok(())
}

pub(crate) async fn resolve(name: &str) -> anyhow::Result<()> {
    let found = lookup_host((name, 0)).await;
    let addresses: Vec<String> = match found {
        Ok(found) => found.map(|address| address.ip().to_string()).collect(),
        Err(error) => {
            println!("{}", json!({"addresses": [], "error": error.to_string()}));
            return Ok(());
        }
    };
    println!("{}", json!({"addresses": addresses, "error": null}));
    Ok(())
}
