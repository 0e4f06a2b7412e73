//! The REST API over HTTP.
//!
//! Invariant: servers' certificates are always verified, and nothing is sent to another place than the URL says: no
//! proxy, no redirect, and `localhost` is this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Certificate, Method, StatusCode, Url};
use serde_json::Value;

use crate::access::Access;
use crate::failure::usage;
use crate::problem::Refusal;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For a whole request with its answer.
const TIMEOUT: Duration = Duration::from_mins(1);
/// For one that writes everything.
const LONG: Duration = Duration::from_mins(10);
/// Objects in one answer; the rest is asked for again.
const PAGE: &str = "500";

/// A control plane's API.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    token: HeaderValue,
}

impl Client {
    /// Reads the files that `access` names; connects with the first request.
    pub(crate) fn new(access: &Access) -> anyhow::Result<Self> {
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("ursactl/", env!("CARGO_PKG_VERSION")));
        if access.url.scheme() == "http" {
            let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
                .map(|ip| SocketAddr::new(ip, 0));
            builder = builder.resolve_to_addrs("localhost", &loopback).tls_certs_only([]);
        } else if let Some(file) = &access.ca_file {
            builder = builder.tls_certs_only(authorities(file)?);
        }
        let http =
            builder.build().context("cannot set up TLS: if the system has no authorities, give --ca-file")?;
        Ok(Self { http, base: access.url.clone(), token: token(&access.token_file)? })
    }

    /// What is under the path.
    pub(crate) async fn get(&self, path: &[&str]) -> anyhow::Result<Value> {
        Ok(self.send(Method::GET, self.url(path)?, None).await?.1)
    }

    /// What is under the path, if anything is.
    pub(crate) async fn find(&self, path: &[&str]) -> anyhow::Result<Option<Value>> {
        match self.get(path).await {
            Err(error) if is_not_found(&error) => Ok(None),
            found => found.map(Some),
        }
    }

    /// All items of a list, page by page.
    pub(crate) async fn list(&self, path: &[&str]) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut url = self.url(path)?;
            url.query_pairs_mut().append_pair("limit", PAGE);
            if let Some(after) = &after {
                url.query_pairs_mut().append_pair("continue", after);
            }
            let (_, mut page) = self.send(Method::GET, url, None).await?;
            let Some(Value::Array(found)) = page.get_mut("items").map(Value::take) else {
                bail!("{} did not answer with a list: is this the URL of a control plane's API?", self.base);
            };
            items.extend(found);
            let next = page.get("continue").and_then(Value::as_str).map(str::to_owned);
            match next {
                None => return Ok(items),
                same if same == after => bail!("{} gives the same page of a list again and again", self.base),
                next => after = next,
            }
        }
    }

    /// Writes an object: what it is now, and whether it has been created.
    pub(crate) async fn put(&self, path: &[&str], object: &Value) -> anyhow::Result<(bool, Value)> {
        let (status, object) = self.send(Method::PUT, self.url(path)?, Some(object)).await?;
        Ok((status == StatusCode::CREATED, object))
    }

    /// Asks for something to be made.
    pub(crate) async fn post(&self, path: &[&str], request: &Value) -> anyhow::Result<Value> {
        Ok(self.send(Method::POST, self.url(path)?, Some(request)).await?.1)
    }

    /// The same, of what is large and takes its time.
    pub(crate) async fn post_patiently(&self, path: &[&str], request: &Value) -> anyhow::Result<Value> {
        Ok(self.send_within(LONG, Method::POST, self.url(path)?, Some(request)).await?.1)
    }

    /// Deletes an object.
    pub(crate) async fn delete(&self, path: &[&str]) -> anyhow::Result<()> {
        self.send(Method::DELETE, self.url(path)?, None).await.map(drop)
    }

    /// Each part is one segment, whatever it holds.
    fn url(&self, path: &[&str]) -> anyhow::Result<Url> {
        if let Some(part) = path.iter().find(|part| ["", ".", ".."].contains(*part)) {
            return Err(usage(format!("{part:?} is no name of a resource or mesh")));
        }
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| anyhow!("{} has no path", self.base))?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        self.send_within(TIMEOUT, method, url, body).await
    }

    async fn send_within(
        &self,
        bound: Duration,
        method: Method,
        url: Url,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let mut request = self
            .http
            .request(method, url)
            .timeout(bound)
            .header(AUTHORIZATION, self.token.clone())
            .header("accept", "application/json");
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| self.unreachable(error))?;
        if !status.is_success() {
            return Err(Refusal::new(status, &body).into());
        }
        if body.is_empty() {
            return Ok((status, Value::Null));
        }
        let value = serde_json::from_slice(&body).with_context(|| {
            format!("{} did not answer with JSON: is this the URL of a control plane's API?", self.base)
        })?;
        Ok((status, value))
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        let error = error.without_url();
        let reason = root(&error);
        let hint = if reason.contains("certificate") {
            " (the authority that signed it is given by --ca-file)"
        } else {
            ""
        };
        anyhow!("cannot reach the control plane at {}: {reason}{hint}", self.base)
    }
}

/// Whether the error is the API's answer that there is no such thing.
fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.status == StatusCode::NOT_FOUND)
}

/// The innermost cause: the ones around it say only that something failed.
fn root(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn authorities(file: &Path) -> anyhow::Result<Vec<Certificate>> {
    let pem = std::fs::read(file).with_context(|| format!("cannot read the CA file {}", file.display()))?;
    let certificates = Certificate::from_pem_bundle(&pem)
        .with_context(|| format!("the CA file {} is not PEM", file.display()))?;
    ensure!(!certificates.is_empty(), "the CA file {} holds no certificate (PEM)", file.display());
    Ok(certificates)
}

/// The header for the token in a file. Messages never hold what is in the file.
fn token(file: &Path) -> anyhow::Result<HeaderValue> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the token file {}", file.display()))?;
    let token = text.trim();
    let one_word = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(one_word, "the token file {} does not hold one token", file.display());
    let mut header = HeaderValue::from_str(&format!("Bearer {token}"))?;
    header.set_sensitive(true);
    Ok(header)
}
