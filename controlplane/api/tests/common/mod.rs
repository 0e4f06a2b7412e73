//! The API over real connections, and bodies for it.
#![allow(clippy::unwrap_used, reason = "a failed set-up fails the test")]
#![allow(dead_code, reason = "each test binary uses a part")]

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use ursa_api::{ApiState, Mode, ServerInfo, router};
use ursa_crds::schema::CURRENT;
use ursa_crds::{KINDS, Object};
use ursa_identity::{Tokens, UserClaims};
use ursa_store::Store;

/// A control plane's API on a loopback port, with an admin's token.
pub(crate) struct Api {
    pub(crate) base: String,
    pub(crate) token: String,
    pub(crate) client: reqwest::Client,
    pub(crate) store: Store,
    pub(crate) tokens: Arc<Tokens>,
    server: tokio::task::JoinHandle<()>,
}

impl Api {
    pub(crate) async fn start(store: Store) -> Self {
        Self::start_as(Mode::Standalone, store).await
    }

    /// Of a control plane of this mode, in the zone `z` if it is in one.
    pub(crate) async fn start_as(mode: Mode, store: Store) -> Self {
        Self::start_of(mode, store, CURRENT).await
    }

    /// The same of a version that knows no more than this schema.
    pub(crate) async fn start_of(mode: Mode, store: Store, schema: u32) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let tokens = Arc::new(Tokens::generate().unwrap());
        let admin = UserClaims { name: "admin".into(), groups: vec!["admin".into()] };
        let token = tokens.issue_user(&admin, Duration::from_mins(10), Timestamp::now()).unwrap().token;
        let zone = if mode == Mode::Global { "" } else { "z" };
        let info = ServerInfo { version: "0".into(), mode, zone: zone.into(), instance: "test".into() };
        let state = ApiState::new(store.clone(), tokens.clone(), info, Vec::new()).with_schema(schema);
        let routes = router(state.with_reviews(mode != Mode::Zone), axum::Router::new());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { base, token, client, store, tokens, server }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    pub(crate) async fn put(&self, path: &str, body: String) -> Response {
        self.request(Method::PUT, path).body(body).send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.request(Method::GET, path).send().await.unwrap().json().await.unwrap()
    }

    /// Sends a request as it is, and reads the answer up to the end of the connection.
    pub(crate) async fn raw(&self, line: &str, headers: &[&str], body: &[u8]) -> String {
        let host = self.base.strip_prefix("http://").unwrap();
        let mut head = format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        head.extend([format!("Authorization: Bearer {}\r\n", self.token)]);
        head.extend(headers.iter().map(|header| format!("{header}\r\n")));
        head.push_str("\r\n");
        let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// Deletes an object.
    pub(crate) async fn delete(&self, path: &str) -> StatusCode {
        self.request(Method::DELETE, path).send().await.unwrap().status()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What the store holds, and at which revision.
pub(crate) fn everything(api: &Api) -> (u64, Vec<Arc<Object>>) {
    (api.store.revision(), KINDS.iter().flat_map(|info| api.store.list(info.kind)).collect())
}

/// Sends a request that must be refused like this, and change nothing.
pub(crate) async fn refused(api: &Api, what: &str, request: RequestBuilder, status: u16) -> Value {
    let before = everything(api);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), status, "{what}");
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{what}");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["status"], status, "{what}");
    for field in ["type", "title", "detail"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{what}: {problem}");
    }
    assert!(everything(api) == before, "{what}: a request that is refused changes nothing");
    problem
}

/// The body of a mesh without anything.
pub(crate) fn mesh() -> String {
    json!({"apiVersion": ursa_crds::API_VERSION, "kind": "Mesh"}).to_string()
}

/// The body of a secret; the path says the rest.
pub(crate) fn secret(value: &str) -> String {
    json!({"apiVersion": ursa_crds::API_VERSION, "kind": "Secret", "spec": {"value": value}}).to_string()
}

/// The body of a permission for this source; the path says the rest.
pub(crate) fn permission(source: &str) -> Value {
    let service = |name: &str| json!([{"match": {"ursamesh.io/service": name}}]);
    let spec = json!({"sources": service(source), "destinations": service("*")});
    json!({"apiVersion": ursa_crds::API_VERSION, "kind": "TrafficPermission", "spec": spec})
}
