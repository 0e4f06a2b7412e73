//! REST of a global control plane about its zones: their state, and the adoption of a replaced store.

use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde_json::{Value, json};
use ursa_api::ApiState;
use ursa_sync::global::Global;

pub(crate) fn routes(global: Global) -> Router<ApiState> {
    let states = global.clone();
    Router::new()
        .route("/zones+state", get(async move || Json(state(&states))))
        .route("/adoption", post(async move || adopt(&global).await))
}

/// Each zone that has connected since the start: `{items: [{name, connected, heardAt, secondsBehind, version, settled}]}`.
fn state(global: &Global) -> Value {
    let now = Timestamp::now();
    let zones = global.zones().into_iter().map(|(name, zone)| {
        json!({
            "name": name,
            "connected": zone.connected,
            "heardAt": zone.heard_at,
            "secondsSilent": zone.heard_at.map(|at| now.duration_since(at).as_secs()),
            "version": zone.version,
            "settled": zone.settled,
        })
    });
    json!({"items": zones.collect::<Vec<_>>()})
}

async fn adopt(global: &Global) -> (StatusCode, Json<Value>) {
    match global.adopt().await {
        Ok(()) => (StatusCode::OK, Json(json!({"adopted": true}))),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"detail": error.to_string()}))),
    }
}
