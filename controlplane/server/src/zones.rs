//! REST of a global control plane about its zones: their state, and the adoption of a replaced store.

use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde_json::{Value, json};
use ursa_api::{ApiState, ZoneState, zone_insight};
use ursa_crds::{Kind, Spec, ZoneInsightSpec, ZoneSpec};
use ursa_store::Store;
use ursa_sync::global::{Global, ZoneState as Connection};

pub(crate) fn routes(store: Store, global: Global) -> Router<ApiState> {
    let states = global.clone();
    Router::new()
        .route("/zones+state", get(async move || Json(all(&store, &states, Timestamp::now()))))
        .route("/adoption", post(async move || adopt(&global).await))
}

/// Each zone, by name: `{items: [{name, state, secondsBehind, heardAt, version, schema, incompatible}]}`.
fn all(store: &Store, global: &Global, now: Timestamp) -> Value {
    let known = global.zones();
    let mut items = Vec::new();
    for zone in store.list(Kind::Zone) {
        if let Spec::Zone(spec) = &zone.spec {
            let name = &zone.meta.name;
            items.push(one(name, spec, &zone_insight(store, name), known.get(name), now));
        }
    }
    json!({"items": items})
}

/// `secondsBehind`: for how long it has not had everything that global has, 1 at least; 0: it has; `null`: it never had, or this replica cannot tell.
fn one(
    name: &str,
    spec: &ZoneSpec,
    insight: &ZoneInsightSpec,
    known: Option<&Connection>,
    now: Timestamp,
) -> Value {
    // The replica that leads knows; what others see is what that one wrote.
    let connected = known.map_or(insight.connected, |known| known.connected);
    let behind_since = match known {
        Some(known) => known.behind_since,
        None => insight.disconnected_at.filter(|_| !connected),
    };
    let in_step = known.is_some() && connected && behind_since.is_none();
    let behind = behind_since.map(|since| now.duration_since(since).as_secs().max(1));
    json!({
        "name": name,
        "state": ZoneState::of(spec, connected, insight).as_str(),
        "secondsBehind": if in_step { Some(0) } else { behind },
        "heardAt": known.and_then(|known| known.heard_at),
        "version": known.map_or(&insight.version, |known| &known.version),
        "schema": Some(insight.schema).filter(|schema| *schema > 0),
        "incompatible": Some(&insight.incompatible).filter(|reason| !reason.is_empty() && !connected),
    })
}

async fn adopt(global: &Global) -> (StatusCode, Json<Value>) {
    match global.adopt().await {
        Ok(()) => (StatusCode::OK, Json(json!({"adopted": true}))),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"detail": error.to_string()}))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(enabled: bool, insight: &ZoneInsightSpec, known: Option<&Connection>) -> (String, Option<i64>) {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let value = one("east", &ZoneSpec { enabled, ..ZoneSpec::default() }, insight, known, now);
        (value["state"].as_str().unwrap().into(), value["secondsBehind"].as_i64())
    }

    #[test]
    fn a_zone_is_as_far_behind_as_it_lacks_something() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let never = ZoneInsightSpec::default();
        assert_eq!(told(true, &never, None), ("New".into(), None));
        let online = Connection { connected: true, ..Connection::default() };
        let gone = ZoneInsightSpec {
            connected_at: at("2026-01-01T00:00:00Z"),
            disconnected_at: at("2026-01-01T00:00:50Z"),
            ..never.clone()
        };
        assert_eq!(told(true, &gone, Some(&online)), ("Online".into(), Some(0)));
        assert_eq!(told(false, &gone, Some(&online)), ("Disabled".into(), Some(0)));
        let late = Connection { behind_since: at("2026-01-01T00:00:57Z"), ..online };
        assert_eq!(told(true, &gone, Some(&late)), ("Online".into(), Some(3)));
        let lost = Connection { connected: false, ..late };
        assert_eq!(told(true, &gone, Some(&lost)), ("Stale".into(), Some(3)));
        // Another replica of global had its stream, or has.
        assert_eq!(told(true, &gone, None), ("Stale".into(), Some(10)));
        let there = ZoneInsightSpec { connected: true, ..gone };
        assert_eq!(told(true, &there, None), ("Online".into(), None));
    }
}
