//! `/admission`: authorities and their secrets, as an API server asks before it stores what users write with `kubectl`.
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>.
//!
//! An API server has no token, so whoever reaches the port is answered: with why a change has to wait, and no more.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use ursa_crds::{GROUP, Kind, Object, schema};
use ursa_store::Store;

use crate::body::Whole;
use crate::problem::Problem;
use crate::{ApiState, authorities};

/// What a change depends on may have been written just before it. The API server gives up after 5 s.
const NEWS_BOUND: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    request: Request,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    kind: GroupKind,
    #[serde(default)]
    namespace: String,
    /// `null`: it is deleted.
    #[serde(default)]
    object: Value,
    /// `null`: it is created.
    #[serde(default)]
    old_object: Value,
}

#[derive(Deserialize)]
struct GroupKind {
    #[serde(default)]
    group: String,
    kind: String,
}

/// What is to be written: an object, or that there is none any more.
enum Change {
    Put(Object),
    Delete(Object),
}

pub(crate) async fn review(State(state): State<ApiState>, body: Whole) -> Result<Json<Value>, Problem> {
    if !state.reviews {
        return Err(Problem::not_found("no API server asks this control plane"));
    }
    let Review { api_version, request } = serde_json::from_slice(&body.0)
        .map_err(|error| Problem::bad_request(format!("this is no AdmissionReview: {error}")))?;
    let judged = match change(&request, state.schema) {
        Ok(None) => Ok(()),
        Ok(Some(change)) => patiently(&state.store, &change).await,
        Err(problem) => Err(problem),
    };
    let mut response = json!({"uid": request.uid, "allowed": judged.is_ok()});
    if let Err(problem) = judged {
        tracing::info!(kind = request.kind.kind, %problem, "refused");
        response["status"] = problem.to_status();
    }
    Ok(Json(json!({"apiVersion": api_version, "kind": "AdmissionReview", "response": response})))
}

/// What is judged of a request; `None`: nothing.
fn change(request: &Request, schema: u32) -> Result<Option<Change>, Problem> {
    let Some(kind) = Kind::by_name(&request.kind.kind) else { return Ok(None) };
    if request.kind.group != (if kind == Kind::Secret { "" } else { GROUP }) {
        return Ok(None);
    }
    let is_going = |object: &Value| !object["metadata"]["deletionTimestamp"].is_null();
    let read = |object: &Value| {
        ursa_store::read_stored(kind, object, &request.namespace)
            .map_err(|problem| Problem::invalid(vec![problem]))
    };
    Ok(if request.object.is_null() {
        Some(Change::Delete(read(&request.old_object)?))
    } else if is_going(&request.object) {
        None
    } else {
        schema::check(kind, &request.object, schema).map_err(|problem| Problem::invalid(vec![problem]))?;
        Some(Change::Put(read(&request.object)?))
    })
}

fn judge(store: &Store, change: &Change) -> Result<(), Problem> {
    match change {
        Change::Put(object) => authorities::check(store, object),
        Change::Delete(object) => authorities::unused(store, &object.key()),
    }
}

/// Judges again while there is news, for a moment.
async fn patiently(store: &Store, change: &Change) -> Result<(), Problem> {
    let until = Instant::now() + NEWS_BOUND;
    let (_, mut news) = store.watch();
    loop {
        let judged = judge(store, change);
        if judged.is_ok() || !matches!(timeout_at(until, news.next()).await, Ok(Some(_))) {
            return judged;
        }
    }
}
