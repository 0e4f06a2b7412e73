//! The part of a control plane's REST API that the demo uses.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::resources::{MESH, Role};

const LIMIT: Duration = Duration::from_secs(10);
/// How long the demo's tokens are valid.
const VALID: &str = "24h";

/// A client for addresses of this machine, which no proxy server of the environment could reach.
pub fn client() -> anyhow::Result<Client> {
    Client::builder().no_proxy().timeout(LIMIT).build().context("cannot set up the HTTP client")
}

/// A control plane's REST API, used with its admin token.
#[derive(Clone)]
pub struct Api {
    base: String,
    token: String,
    client: Client,
}

impl Api {
    /// Of the control plane at this URL, with the token in this file.
    pub fn open(base: &str, token_file: &Path) -> anyhow::Result<Self> {
        let token = std::fs::read_to_string(token_file)
            .with_context(|| format!("cannot read the admin token in {}", token_file.display()))?;
        Ok(Self { base: base.to_owned(), token: token.trim().to_owned(), client: client()? })
    }

    /// Makes a token for an agent; the resource's name is what the agent registers.
    pub async fn agent_token(&self, role: Role, resource: &str) -> anyhow::Result<String> {
        match role {
            Role::Dataplane(service) => {
                let body = json!({"mesh": MESH, "name": resource, "services": [service], "validFor": VALID});
                self.token("dataplane", &body).await
            }
            Role::Ingress => self.token("ingress", &json!({"name": resource, "validFor": VALID})).await,
        }
    }

    /// Makes a token for a zone's control plane.
    pub async fn zone_token(&self, zone: &str) -> anyhow::Result<String> {
        self.token("zone", &json!({"zone": zone, "validFor": VALID})).await
    }

    async fn token(&self, kind: &str, body: &Value) -> anyhow::Result<String> {
        let path = format!("/tokens/{kind}");
        let answer = self.send(Method::POST, &path, Some(body)).await?;
        let token = answer.get("token").and_then(Value::as_str);
        token.map(str::to_owned).with_context(|| format!("POST {path} answered without a token"))
    }

    /// Sends a request; what it answers, null where the answer has no body. Any status but 2xx is an error.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let what = format!("{method} {}{path}", self.base);
        let mut request =
            self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| what.clone())?;
        let status = response.status();
        let text = response.text().await.with_context(|| what.clone())?;
        ensure!(status.is_success(), "{what}: {status}: {text}");
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| format!("{what} did not answer JSON"))
    }
}
