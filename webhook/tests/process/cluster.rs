//! An API server that knows namespaces and meshes only: LIST and WATCH over loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// The API server, until it is dropped.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<Cached>>,
}

#[derive(Default)]
struct Cached {
    /// By kind and name.
    objects: BTreeMap<(String, String), Value>,
    version: u64,
    /// With the kind that each is for.
    watches: Vec<(String, mpsc::UnboundedSender<Value>)>,
    broken: bool,
}

impl Cluster {
    /// With one namespace, `demo`, that asks for sidecars.
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cluster = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let router = Router::new()
            .route("/api/v1/namespaces", get(async |state, query| listed(state, query, "Namespace")))
            .route(
                "/apis/ursamesh.io/v1alpha1/meshes",
                get(async |state, query| listed(state, query, "Mesh")),
            )
            .with_state(cluster.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        cluster.put("demo", &json!({"ursamesh.io/sidecar-injection": "enabled"}));
        cluster
    }

    /// Makes a namespace, or changes its labels.
    pub(crate) fn put(&self, name: &str, labels: &Value) {
        let metadata = json!({"name": name, "labels": labels});
        self.put_object(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
    }

    /// Makes a mesh, or changes it.
    pub(crate) fn put_mesh(&self, name: &str, spec: &Value) {
        let metadata = json!({"name": name, "uid": name});
        self.put_object(
            json!({"apiVersion": "ursamesh.io/v1alpha1", "kind": "Mesh", "metadata": metadata, "spec": spec}),
        );
    }

    fn put_object(&self, mut object: Value) {
        self.with(|cached| {
            cached.version += 1;
            object["metadata"]["resourceVersion"] = json!(cached.version.to_string());
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
            let known = cached.objects.insert((kind.clone(), name), object.clone()).is_some();
            let event = json!({"type": if known { "MODIFIED" } else { "ADDED" }, "object": object});
            cached.watches.retain(|(of, watch)| *of != kind || watch.send(event.clone()).is_ok());
        });
    }

    /// Whether it answers nothing but errors.
    pub(crate) fn set_broken(&self, broken: bool) {
        self.with(|cached| cached.broken = broken);
    }

    pub(crate) fn kubeconfig(&self) -> String {
        let server = format!("http://{}", self.address);
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        })
        .to_string()
    }

    fn with<T>(&self, action: impl FnOnce(&mut Cached) -> T) -> T {
        action(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn listed(State(cluster): State<Cluster>, RawQuery(query): RawQuery, kind: &str) -> Response {
    let is_watch = query.unwrap_or_default().split('&').any(|pair| pair == "watch=true");
    cluster.with(|cached| {
        let of_kind = cached.objects.iter().filter(|((of, _), _)| of == kind).map(|(_, object)| object);
        if cached.broken {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        if is_watch {
            let (sender, receiver) = mpsc::unbounded_channel();
            // What changed since the list was sent is sent again: the watcher knows which is newer.
            for object in of_kind {
                sender.send(json!({"type": "MODIFIED", "object": object})).unwrap();
            }
            cached.watches.push((kind.to_owned(), sender));
            let lines = stream::unfold(receiver, async |mut receiver: mpsc::UnboundedReceiver<Value>| {
                let event = receiver.recv().await?;
                Some((Ok::<_, std::io::Error>(format!("{event}\n")), receiver))
            });
            return Body::from_stream(lines).into_response();
        }
        let items: Vec<&Value> = of_kind.collect();
        let metadata = json!({"resourceVersion": cached.version.to_string()});
        let list = format!("{kind}List");
        axum::Json(json!({"apiVersion": "v1", "kind": list, "metadata": metadata, "items": items}))
            .into_response()
    })
}
