//! The REST API. Resources have one form; YAML and JSON are both taken.
//!
//! Invariant: a request that is refused changes nothing, and without a valid token nothing is said, not even whether
//! something exists.

mod access;
mod admission;
mod authorities;
mod backup;
mod body;
mod conditions;
mod inspect;
mod list;
mod openapi;
mod path;
mod problem;
mod resources;
mod revocations;
mod size;
mod standing;
mod tokens;
mod zone_state;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Mutex, RwLock};
use ursa_crds::{Kind, Object, Owner, schema};
use ursa_identity::Tokens;
use ursa_index::Index;
use ursa_store::Store;

pub use openapi::document as openapi_document;
use problem::Problem;
pub use standing::{Standing, Verdict, is_enforced, standing};
pub use zone_state::{ZoneState, zone_insight};

/// The largest body that is read.
pub const BODY_LIMIT: usize = 1024 * 1024;

/// What a control plane is, and so what users may write there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One zone, no global.
    Standalone,
    /// Takes what users write and sends it to the zones.
    Global,
    /// One of several zones.
    Zone,
}

impl Mode {
    /// Why users may not write objects of a kind here; `None` if they may.
    fn refuses(self, kind: Kind) -> Option<&'static str> {
        match (self, kind.info().owner) {
            (_, Owner::Zone | Owner::ZoneObserved) => {
                Some("it is written by the zone's control plane, from what its agents say")
            }
            (_, Owner::GlobalObserved) => Some("it is written by global, from what it observes"),
            (Self::Zone, Owner::Global | Owner::GlobalOnly) => Some("it belongs to global: change it there"),
            (Self::Global, Owner::ZoneOnly) => Some("it belongs to a zone: change it there"),
            _ => None,
        }
    }
}

/// What the server says of itself.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerInfo {
    /// Version of the control plane.
    pub version: String,
    /// What it is.
    pub mode: Mode,
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
    /// Held by writers into a mesh, so that none goes on while the mesh is deleted, which holds it alone.
    meshes: Arc<RwLock<()>>,
    /// Held by writers of what holds revocations, so that none writes over one that has just come.
    revoking: Arc<Mutex<()>>,
    index: Option<Index>,
    ca_file: Option<PathBuf>,
    reviews: bool,
    schema: u32,
}

impl ApiState {
    /// `hosts`: the names and addresses under which the API may be asked for, besides loopback ones.
    pub fn new(store: Store, tokens: Arc<Tokens>, info: ServerInfo, hosts: Vec<String>) -> Self {
        Self {
            store,
            tokens,
            info: Arc::new(info),
            hosts: Arc::new(hosts),
            meshes: Arc::default(),
            revoking: Arc::default(),
            index: None,
            ca_file: None,
            reviews: false,
            schema: schema::CURRENT,
        }
    }

    /// A resource as it is answered.
    fn shown(&self, object: &Object) -> Value {
        let own_zone = Some(self.info.zone.as_str()).filter(|_| self.info.mode != Mode::Global);
        standing::with_status(&self.store, own_zone, object)
    }

    /// With an index, for what is observed of proxies.
    #[must_use]
    pub fn with_index(mut self, index: Index) -> Self {
        self.index = Some(index);
        self
    }

    /// With the file of the authorities that clients trust this control plane by, PEM.
    #[must_use]
    pub fn with_ca_file(mut self, file: Option<PathBuf>) -> Self {
        self.ca_file = file;
        self
    }

    /// With answers to the API server, which asks about authorities.
    #[must_use]
    pub fn with_reviews(mut self, reviews: bool) -> Self {
        self.reviews = reviews;
        self
    }

    /// Takes what is of this schema, and refuses what came later.
    #[must_use]
    pub fn with_schema(mut self, schema: u32) -> Self {
        self.schema = schema;
        self
    }
}

impl ApiState {
    /// The authorities that clients trust this control plane by, PEM, as they are now.
    async fn authorities(&self) -> Result<Option<String>, Problem> {
        let Some(file) = &self.ca_file else { return Ok(None) };
        let read = tokio::fs::read_to_string(file).await;
        read.map(Some).map_err(|error| Problem::internal(format!("cannot read {}: {error}", file.display())))
    }

    fn may_write(&self, kind: Kind) -> Result<(), Problem> {
        match self.info.mode.refuses(kind) {
            Some(reason) => Err(Problem::conflict(format!("{kind} cannot be written here: {reason}"))),
            None => Ok(()),
        }
    }
}

/// The API's routes, and further ones that need the same token.
pub fn router(state: ApiState, further: Router<ApiState>) -> Router {
    further
        .route("/", get(info))
        .route("/openapi.json", get(openapi::get))
        .route("/backup", get(backup::take))
        .route("/restore", post(backup::restore))
        .route("/tokens/dataplane", post(tokens::dataplane))
        .route("/tokens/user", post(tokens::user))
        .route("/tokens/ingress", post(tokens::ingress))
        .route("/tokens/zone", post(tokens::zone))
        .route("/tokens/dataplane/revoke", post(revocations::dataplane))
        .route("/tokens/zone/revoke", post(revocations::zone))
        .route("/{plural}", get(resources::list_global))
        .route(
            "/{plural}/{name}",
            get(resources::get_global).put(resources::put_global).delete(resources::delete_global),
        )
        .route("/meshes/{mesh}/services", get(inspect::services))
        .route("/meshes/{mesh}/dataplanes+insights", get(inspect::insights))
        .route("/meshes/{mesh}/dataplanes/{name}/{view}", get(inspect::dataplane))
        .route("/meshes/{mesh}/{plural}", get(resources::list_in_mesh))
        .route(
            "/meshes/{mesh}/{plural}/{name}",
            get(resources::get_in_mesh).put(resources::put_in_mesh).delete(resources::delete_in_mesh),
        )
        .fallback(async || Problem::not_found("there is nothing under this path"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(middleware::from_fn_with_state(state.clone(), access::check))
        // Before the token, which orchestrators and API servers have not.
        .route("/healthz", get(async || "ok\n"))
        .route("/admission", post(admission::review))
        .with_state(state)
}

async fn info(State(state): State<ApiState>, headers: HeaderMap) -> Response {
    let info = serde_json::to_value(state.info.as_ref()).expect("texts serialize");
    body::answer(StatusCode::OK, &headers, &info)
}
