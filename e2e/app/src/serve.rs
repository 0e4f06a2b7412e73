//! Servers.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

/// Serves until SIGTERM; what was asked before is answered.
pub(crate) async fn until_told(
    name: &str,
    http: Option<u16>,
    banner: Option<u16>,
    echo: Option<u16>,
) -> anyhow::Result<()> {
    let name: Arc<str> = name.into();
    if let Some(port) = banner {
        let name = name.clone();
        tokio::spawn(accept(listen(port).await?, move |stream| speak_first(stream, name.clone())));
    }
    if let Some(port) = echo {
        tokio::spawn(accept(listen(port).await?, repeat));
    }
    let mut told = signal(SignalKind::terminate())?;
    match http {
        None => {
            told.recv().await;
        }
        Some(port) => {
            let router = Router::new().fallback(who).with_state(name);
            axum::serve(listen(port).await?, router.into_make_service_with_connect_info::<SocketAddr>())
                .with_graceful_shutdown(async move {
                    told.recv().await;
                })
                .await?;
        }
    }
    Ok(())
}

/// At every address, of both families where there are both.
async fn listen(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await,
    }
}

async fn who(
    State(name): State<Arc<str>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Json<Value> {
    let caller = headers.get("x-forwarded-client-cert").and_then(|value| value.to_str().ok());
    let pod = std::env::var("HOSTNAME").unwrap_or_default();
    Json(json!({
        "name": *name,
        "pod": pod,
        "peer": peer.ip().to_canonical().to_string(),
        "caller": caller,
    }))
}

async fn accept<F: Future<Output = std::io::Result<()>> + Send + 'static>(
    listener: TcpListener,
    each: impl Fn(TcpStream) -> F,
) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(each(stream));
    }
}

async fn speak_first(mut stream: TcpStream, name: Arc<str>) -> std::io::Result<()> {
    stream.write_all(format!("{name} speaks first\n").as_bytes()).await?;
    stream.shutdown().await?;
    stream.read(&mut [0; 1]).await.map(drop)
}

async fn repeat(mut stream: TcpStream) -> std::io::Result<()> {
    let (mut from, mut to) = stream.split();
    tokio::io::copy(&mut from, &mut to).await.map(drop)
}
