//! Health, readiness and metrics: `/healthz`, `/readyz`, `/metrics`. No secrets, no token.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::sync::watch;

use crate::certificate::Tls;
use crate::metrics::Metrics;
use crate::settings::InForce;

/// What readiness depends on.
#[derive(Clone)]
pub(crate) struct Diagnostics {
    pub(crate) tls: Tls,
    pub(crate) settings: InForce,
    pub(crate) synced: watch::Receiver<bool>,
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) metrics: Arc<Metrics>,
}

pub(crate) fn router(diagnostics: Diagnostics) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(diagnostics)
}

async fn readyz(State(diagnostics): State<Diagnostics>) -> (StatusCode, String) {
    let missing = diagnostics.missing();
    if missing.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join(", ")))
    }
}

impl Diagnostics {
    fn missing(&self) -> Vec<&'static str> {
        let checks = [
            (self.tls.borrow().is_none(), "no certificate was read yet"),
            (self.settings.borrow().is_none(), "no settings were read yet"),
            (!*self.synced.borrow(), "not all namespaces are known yet"),
            (*self.stopping.borrow(), "it is stopping"),
        ];
        checks.into_iter().filter(|(holds, _)| *holds).map(|(_, what)| what).collect()
    }
}

async fn metrics(State(diagnostics): State<Diagnostics>) -> ([(&'static str, &'static str); 1], String) {
    let form = [("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    (form, diagnostics.metrics.text())
}
