//! Probes by HTTP: any status from 200 to 399 is good, and so is a redirect to another host.
//!
//! Invariant: only the application is asked, whatever host a probe or a redirect names.

use std::net::{IpAddr, SocketAddr};

use http::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use url::Url;

use crate::health::check::{connect, tls};
use crate::health::probes::{Http, bracketed};

/// As many redirects as Go's client follows.
const MAX_REDIRECTS: usize = 10;

pub(super) async fn check(probe: &Http, application: IpAddr) -> Result<(), String> {
    let host = bracketed(&probe.host.clone().unwrap_or_else(|| application.to_string()));
    let scheme = if probe.tls { "https" } else { "http" };
    let path = probe.path.trim_start_matches('/');
    let mut url = Url::parse(&format!("{scheme}://{host}:{}/{path}", probe.port))
        .map_err(|error| format!("{:?} cannot be asked for: {error}", probe.path))?;
    let mut said_host =
        probe.headers.iter().rev().find(|(name, _)| name == HOST).map(|(_, value)| value.clone());
    if said_host.is_none() {
        said_host = HeaderValue::from_str(&format!("{host}:{}", probe.port)).ok();
    }
    for _ in 0..=MAX_REDIRECTS {
        let response = ask(probe, application, &url, said_host.as_ref()).await?;
        let status = response.status();
        let Some(location) = redirect(&response) else {
            return if (200..400).contains(&status.as_u16()) {
                Ok(())
            } else {
                Err(format!("HTTP probe failed with status {}", status.as_u16()))
            };
        };
        let next = url.join(&location).map_err(|error| format!("redirected to {location:?}: {error}"))?;
        if next.host() != url.host() {
            return Ok(()); // Not for the application to answer.
        }
        if Url::parse(&location).is_ok() {
            said_host = None;
        }
        url = next;
    }
    Err(format!("HTTP probe failed: more than {MAX_REDIRECTS} redirects"))
}

/// Where a response sends its reader.
fn redirect(response: &http::Response<Incoming>) -> Option<String> {
    use StatusCode as S;
    let redirects =
        [S::MOVED_PERMANENTLY, S::FOUND, S::SEE_OTHER, S::TEMPORARY_REDIRECT, S::PERMANENT_REDIRECT];
    let location = response.headers().get(LOCATION).filter(|_| redirects.contains(&response.status()))?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

/// Asks once, on a connection of its own.
async fn ask(
    probe: &Http,
    application: IpAddr,
    url: &Url,
    said_host: Option<&HeaderValue>,
) -> Result<http::Response<Incoming>, String> {
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let mut request = Request::get(target).body(String::new()).map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static(super::USER_AGENT));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    for name in probe.headers.iter().map(|(name, _)| name) {
        headers.remove(name);
    }
    for (name, value) in &probe.headers {
        headers.append(name, value.clone());
    }
    let authority = HeaderValue::from_str(url.authority()).map_err(|error| error.to_string())?;
    headers.insert(HOST, said_host.cloned().unwrap_or(authority));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let port = url.port_or_known_default().ok_or("the redirect names no port")?;
    let stream = connect(SocketAddr::new(application, port)).await?;
    match url.scheme() {
        "https" => {
            let host = url.host().ok_or("the redirect names no host")?.to_owned();
            exchange(tls::connect(stream, &host).await?, request).await
        }
        "http" => exchange(stream, request).await,
        other => Err(format!("redirected to the scheme {other}")),
    }
}

/// The head of the response; its body is nobody's business.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<String>,
) -> Result<http::Response<Incoming>, String> {
    let failed = |error: hyper::Error| format!("HTTP probe failed: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let mut connections = JoinSet::new(); // Ends with this function.
    connections.spawn(connection);
    sender.send_request(request).await.map_err(failed)
}
