//! REST of a global control plane about its zones: their state, and the adoption of a replaced store.

use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde_json::{Value, json};
use ursa_api::ApiState;
use ursa_crds::{Kind, Object, ObjectKey, Spec, ZoneInsightSpec, ZoneSpec};
use ursa_store::Store;
use ursa_sync::global::{Global, ZoneState};

pub(crate) fn routes(store: Store, global: Global) -> Router<ApiState> {
    let states = global.clone();
    Router::new()
        .route("/zones+state", get(async move || Json(all(&store, &states, Timestamp::now()))))
        .route("/adoption", post(async move || adopt(&global).await))
}

/// How it stands with a zone's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Its stream is open.
    Online,
    /// Its stream is not open.
    Stale,
    /// Its user wants no traffic sent to it.
    Disabled,
    /// It was never connected.
    New,
}

impl State {
    pub(crate) fn of(spec: &ZoneSpec, connected: bool, insight: &ZoneInsightSpec) -> Self {
        match (spec.enabled, connected) {
            (false, _) => Self::Disabled,
            (true, true) => Self::Online,
            (true, false) if insight.connected_at.is_some() => Self::Stale,
            (true, false) => Self::New,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Online => "Online",
            Self::Stale => "Stale",
            Self::Disabled => "Disabled",
            Self::New => "New",
        }
    }
}

/// What global has observed of a zone.
pub(crate) fn insight(store: &Store, zone: &str) -> ZoneInsightSpec {
    let key = ObjectKey { kind: Kind::ZoneInsight, ..ObjectKey::zone(zone) };
    match store.get(&key).as_deref() {
        Some(Object { spec: Spec::ZoneInsight(spec), .. }) => spec.clone(),
        _ => ZoneInsightSpec::default(),
    }
}

/// Each zone, by name: `{items: [{name, state, secondsBehind, heardAt, version}]}`.
fn all(store: &Store, global: &Global, now: Timestamp) -> Value {
    let known = global.zones();
    let mut items = Vec::new();
    for zone in store.list(Kind::Zone) {
        if let Spec::Zone(spec) = &zone.spec {
            let name = &zone.meta.name;
            items.push(one(name, spec, &insight(store, name), known.get(name), now));
        }
    }
    json!({"items": items})
}

/// `secondsBehind`: for how long it has not had everything that global has, 1 at least; 0: it has; `null`: it never had, or this replica cannot tell.
fn one(
    name: &str,
    spec: &ZoneSpec,
    insight: &ZoneInsightSpec,
    known: Option<&ZoneState>,
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
        "state": State::of(spec, connected, insight).as_str(),
        "secondsBehind": if in_step { Some(0) } else { behind },
        "heardAt": known.and_then(|known| known.heard_at),
        "version": known.map_or(&insight.version, |known| &known.version),
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

    fn told(enabled: bool, insight: &ZoneInsightSpec, known: Option<&ZoneState>) -> (String, Option<i64>) {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let value = one("east", &ZoneSpec { enabled }, insight, known, now);
        (value["state"].as_str().unwrap().into(), value["secondsBehind"].as_i64())
    }

    #[test]
    fn a_zone_is_as_far_behind_as_it_lacks_something() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let never = ZoneInsightSpec::default();
        assert_eq!(told(true, &never, None), ("New".into(), None));
        let online = ZoneState { connected: true, ..ZoneState::default() };
        let gone = ZoneInsightSpec {
            connected_at: at("2026-01-01T00:00:00Z"),
            disconnected_at: at("2026-01-01T00:00:50Z"),
            ..never.clone()
        };
        assert_eq!(told(true, &gone, Some(&online)), ("Online".into(), Some(0)));
        assert_eq!(told(false, &gone, Some(&online)), ("Disabled".into(), Some(0)));
        let late = ZoneState { behind_since: at("2026-01-01T00:00:57Z"), ..online };
        assert_eq!(told(true, &gone, Some(&late)), ("Online".into(), Some(3)));
        let lost = ZoneState { connected: false, ..late };
        assert_eq!(told(true, &gone, Some(&lost)), ("Stale".into(), Some(3)));
        // Another replica of global had its stream, or has.
        assert_eq!(told(true, &gone, None), ("Stale".into(), Some(10)));
        let there = ZoneInsightSpec { connected: true, ..gone };
        assert_eq!(told(true, &there, None), ("Online".into(), None));
    }
}
