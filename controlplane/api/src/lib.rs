//! The REST API. Resources have one form; YAML and JSON are both taken.
//!
//! Invariant: a request that is refused changes nothing, and without a valid token nothing is said, not even whether
//! something exists.

mod access;
mod body;
mod list;
mod problem;
mod resources;
mod tokens;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::middleware;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use ursa_identity::Tokens;
use ursa_store::Store;

use problem::Problem;

/// The largest body that is read.
pub const BODY_LIMIT: usize = 1024 * 1024;

/// What the server says of itself.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerInfo {
    /// Version of the control plane.
    pub version: String,
    /// `standalone`, `global` or `zone`.
    pub mode: String,
    /// The zone; empty for a global control plane.
    pub zone: String,
    /// The host.
    pub instance: String,
}

/// What the API works with; cheap to clone.
#[derive(Clone, Debug)]
pub struct ApiState {
    store: Store,
    tokens: Arc<Tokens>,
    info: Arc<ServerInfo>,
    hosts: Arc<Vec<String>>,
}

impl ApiState {
    /// `hosts`: the names and addresses under which the API may be asked for, besides loopback ones.
    pub fn new(store: Store, tokens: Arc<Tokens>, info: ServerInfo, hosts: Vec<String>) -> Self {
        Self { store, tokens, info: Arc::new(info), hosts: Arc::new(hosts) }
    }
}

/// The API's routes.
pub fn router(state: ApiState) -> Router {
    Router::new()
        .route("/", get(info))
        .route("/tokens/dataplane", post(tokens::dataplane))
        .route("/tokens/user", post(tokens::user))
        .route("/{plural}", get(resources::list_global))
        .route(
            "/{plural}/{name}",
            get(resources::get_global).put(resources::put_global).delete(resources::delete_global),
        )
        .route("/meshes/{mesh}/{plural}", get(resources::list_in_mesh))
        .route(
            "/meshes/{mesh}/{plural}/{name}",
            get(resources::get_in_mesh).put(resources::put_in_mesh).delete(resources::delete_in_mesh),
        )
        .fallback(async || Problem::not_found("there is nothing under this path"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn_with_state(state.clone(), access::check))
        // Before the token, so that orchestrators can ask.
        .route("/healthz", get(async || "ok\n"))
        .with_state(state)
}

async fn info(State(state): State<ApiState>) -> Json<ServerInfo> {
    Json(state.info.as_ref().clone())
}
