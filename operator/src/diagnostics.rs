//! Health, readiness and metrics: `/healthz`, `/readyz`, `/metrics`. No secrets, no token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text::encode;

use crate::metrics::Metrics;

/// What the endpoints report.
#[derive(Clone, Debug, Default)]
pub(crate) struct Diagnostics {
    /// Whether the operator does what it is to: it leads and has installed the definitions, or another one leads.
    pub(crate) ready: Arc<AtomicBool>,
    /// What is counted.
    pub(crate) metrics: Metrics,
}

/// The endpoints.
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
    let mut text = String::new();
    match encode(&mut text, &diagnostics.metrics.registry()) {
        Ok(()) => (
            StatusCode::OK,
            [("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")],
            text,
        )
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
