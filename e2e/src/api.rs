//! A control plane's REST API as an administrator uses it.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A client with the admin token.
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    token: String,
    client: reqwest::Client,
}

impl Api {
    /// For the API at `base`, with the token in this file.
    pub fn new(base: &str, token_file: &Path) -> anyhow::Result<Self> {
        let token = std::fs::read_to_string(token_file).context("the admin token")?.trim().to_owned();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).no_proxy().build()?;
        Ok(Self { base: base.to_owned(), token, client })
    }

    /// Sends a request; the answer's status and its body as JSON (null if it has none).
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let mut request =
            self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", "application/yaml").body(body);
        }
        let response = request.send().await?;
        let status = response.status();
        let body = response.bytes().await?;
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    /// Stores resources from YAML, in order; each must be accepted.
    pub async fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        for document in ursa_crds::parse_documents(yaml.as_bytes())? {
            let object = ursa_crds::decode_value(&document)?;
            let key = object.key();
            let (status, body) = self.send(Method::PUT, &path(&key), Some(document.to_string())).await?;
            anyhow::ensure!(status.is_success(), "{key}: {status}: {body}");
        }
        Ok(())
    }

    /// Deletes a resource, which must exist.
    pub async fn delete(&self, key: &ursa_crds::ObjectKey) -> anyhow::Result<()> {
        let (status, body) = self.send(Method::DELETE, &path(key), None).await?;
        anyhow::ensure!(status == StatusCode::NO_CONTENT, "{key}: {status}: {body}");
        Ok(())
    }

    /// A data-plane token for one dataplane.
    pub async fn dataplane_token(&self, mesh: &str, name: &str, services: &[&str]) -> anyhow::Result<String> {
        self.token("dataplane", &json!({"mesh": mesh, "name": name, "services": services, "validFor": "1h"}))
            .await
    }

    /// A token for a zone ingress.
    pub async fn ingress_token(&self, name: &str) -> anyhow::Result<String> {
        self.token("ingress", &json!({"name": name, "validFor": "1h"})).await
    }

    /// A token for a zone.
    pub async fn zone_token(&self, zone: &str) -> anyhow::Result<String> {
        self.token("zone", &json!({"zone": zone, "validFor": "1h"})).await
    }

    async fn token(&self, kind: &str, request: &Value) -> anyhow::Result<String> {
        let (status, answer) =
            self.send(Method::POST, &format!("/tokens/{kind}"), Some(request.to_string())).await?;
        anyhow::ensure!(status.is_success(), "{status}: {answer}");
        answer["token"].as_str().map(str::to_owned).context("the answer has no token")
    }

    /// The names of a mesh's resources of a kind.
    pub async fn names(&self, mesh: &str, plural: &str) -> anyhow::Result<Vec<String>> {
        let (status, list) =
            self.send(Method::GET, &format!("/meshes/{mesh}/{plural}?limit=1000"), None).await?;
        anyhow::ensure!(status.is_success(), "{status}: {list}");
        let items = list["items"].as_array().context("a list has items")?;
        Ok(items.iter().filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned)).collect())
    }
}

fn path(key: &ursa_crds::ObjectKey) -> String {
    let plural = key.kind.info().plural;
    if key.mesh.is_empty() {
        format!("/{plural}/{}", key.name)
    } else {
        format!("/meshes/{}/{plural}/{}", key.mesh, key.name)
    }
}
