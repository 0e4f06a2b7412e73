//! Health, readiness and metrics: `/healthz`, `/readyz`, `/metrics` on port 5680. No secrets, no token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use ursa_crds::KINDS;
use ursa_store::Store;

/// What the endpoints report.
#[derive(Clone, Debug)]
pub(crate) struct Diagnostics {
    pub(crate) store: Store,
    pub(crate) ready: Arc<AtomicBool>,
}

pub(crate) fn router(diagnostics: Diagnostics) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(diagnostics)
}

async fn readyz(State(diagnostics): State<Diagnostics>) -> impl IntoResponse {
    if diagnostics.ready.load(Ordering::Acquire) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn metrics(State(diagnostics): State<Diagnostics>) -> impl IntoResponse {
    let mut registry = Registry::with_prefix("ursa");
    let objects = prometheus_client::metrics::family::Family::<Vec<(String, String)>, Gauge>::default();
    for info in KINDS {
        let count = diagnostics.store.list(info.kind).len();
        objects
            .get_or_create(&vec![("kind".into(), info.name.into())])
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    registry.register("store_objects", "Objects in the store by kind", objects);
    let revision: Gauge = Gauge::default();
    revision.set(i64::try_from(diagnostics.store.revision()).unwrap_or(i64::MAX));
    registry.register("store_revision", "The store's revision", revision);
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => (
            StatusCode::OK,
            [("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")],
            text,
        )
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
