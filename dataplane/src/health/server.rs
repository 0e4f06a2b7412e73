//! Answers the kubelet by HTTP/1.1, one request a connection.
//!
//! Invariant: readiness fails as soon as the drain begins, and is answered until shutdown.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::health::check::check;
use crate::health::{Probes, Settings, State};

/// Connections that may be open at once; others wait to be accepted.
const MAX_CONNECTIONS: usize = 256;

/// Connections that may wait.
const BACKLOG: u32 = 128;

/// A request comes within this time.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// A connection ends within this time, since nobody's probe takes as long.
const END_WITHIN: Duration = Duration::from_mins(5);

/// Bound of a request's head.
const MAX_HEAD: usize = 16 << 10;

/// A pause after an error that may last.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens; not yet answering.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<TcpListener>,
    application: IpAddr,
    probes: Probes,
}

/// What every request needs.
#[derive(Debug)]
struct Answers {
    application: IpAddr,
    probes: Probes,
    state: State,
}

impl Server {
    /// Listens where the settings say.
    pub async fn bind(settings: Settings) -> io::Result<Self> {
        let Settings { address, application, probes } = settings;
        for (key, reason) in probes.bad() {
            warn!(key, reason, "a probe of the application cannot be run, so it will fail");
        }
        let listener = TcpListener::bind(address).await.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen for health checks at {address}: {error}"))
        })?;
        let port = listener.local_addr()?.port();
        let mut listeners = vec![listener];
        if address.is_ipv4() && address.ip().is_unspecified() {
            match bind_ipv6(port) {
                Ok(listener) => listeners.push(listener),
                Err(error) => info!(%error, "health checks are answered by IPv4 only"),
            }
        }
        Ok(Self { listeners, application, probes })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Answers until shutdown.
    pub async fn run(self, state: State, shutdown: CancellationToken) {
        let Self { listeners, application, probes } = self;
        let answers = Arc::new(Answers { application, probes, state });
        let mut tasks = JoinSet::new();
        for listener in listeners {
            tasks.spawn(accept(listener, answers.clone()));
        }
        shutdown.cancelled().await;
        tasks.shutdown().await; // What is open ends with the tasks.
    }
}

/// Every IPv6 address, and these alone: those of IPv4 have a socket of their own.
fn bind_ipv6(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port))?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, answers: Arc<Answers>) {
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut tasks = JoinSet::new();
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        let stream = loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => break stream,
                    Err(error) => {
                        warn!(%error, "cannot accept health checks");
                        sleep(PAUSE).await;
                    }
                },
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        warn!(%error, "a health check failed");
                    }
                }
            }
        };
        let answers = answers.clone();
        tasks.spawn(async move {
            let _permit = permit;
            if timeout(END_WITHIN, serve(stream, &answers)).await.is_err() {
                debug!("a health check took too long");
            }
        });
    }
}

async fn serve(stream: TcpStream, answers: &Answers) {
    let service = service_fn(async |request| Ok::<_, Infallible>(answers.answer(&request).await));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_WITHIN)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        debug!(%error, "a health check's connection failed");
    }
}

impl Answers {
    async fn answer(&self, request: &Request<Incoming>) -> Response<String> {
        let path = request.uri().path();
        let found = match path.strip_prefix("/probes/") {
            Some(key) => self.probes.get(key).map(Some),
            None => (path == "/ready").then_some(None),
        };
        let Some(probe) = found else { return response(StatusCode::NOT_FOUND, "not found") };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return response(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered");
        }
        let verdict = match probe {
            Some(Ok(probe)) => check(probe, self.application).await,
            Some(Err(reason)) => Err(format!("this probe cannot be run: {reason}")),
            None => self.ready().map_err(str::to_owned),
        };
        match verdict {
            Ok(()) => response(StatusCode::OK, "ok"),
            Err(reason) => {
                debug!(path, reason, "a health check is answered with failure");
                response(StatusCode::SERVICE_UNAVAILABLE, &reason)
            }
        }
    }

    fn ready(&self) -> Result<(), &'static str> {
        if self.state.draining.is_cancelled() {
            Err("the proxy is draining")
        } else if !*self.state.serving.borrow() {
            Err(
                "Envoy does not serve yet: it has not taken all listeners, or waits for them or for its certificate",
            )
        } else {
            Ok(())
        }
    }
}

fn response(status: StatusCode, reason: &str) -> Response<String> {
    let mut response = Response::new(format!("{reason}\n"));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests;
