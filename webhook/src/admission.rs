//! The two paths that the API server asks, and what both share: reading, bounds, answers, metrics.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures::FutureExt as _;

use crate::body::{BodyError, LIMIT, whole};
use crate::metrics::{Metrics, Path};
use crate::mutate::Mutator;
use crate::review::{self, Verdict};
use crate::validate::Validator;

/// The API server gives up after 5 s; whoever is slower is not it.
const BODY_BOUND: Duration = Duration::from_secs(10);

/// What requests are judged by.
#[derive(Clone)]
pub(crate) struct Admission {
    pub(crate) mutator: Mutator,
    pub(crate) validator: Validator,
    pub(crate) metrics: Arc<Metrics>,
}

pub(crate) fn router(admission: Admission) -> Router {
    Router::new()
        .route("/mutate-pods", post(async |state, body| answer(state, body, Path::MutatePods).await))
        .route("/validate", post(async |state, body| answer(state, body, Path::Validate).await))
        .with_state(admission)
}

async fn answer(State(admission): State<Admission>, body: Body, path: Path) -> Response {
    let start = Instant::now();
    let (result, why, response) = judge(&admission, body, path).await;
    admission.metrics.answered(path, result, why, start.elapsed());
    response
}

async fn judge(admission: &Admission, body: Body, path: Path) -> (&'static str, &'static str, Response) {
    let malformed = |status: StatusCode, why, message: String| {
        tracing::info!(path = path.name(), told = message, "malformed request");
        ("malformed", why, (status, message).into_response())
    };
    let bytes = match tokio::time::timeout(BODY_BOUND, whole(body)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(BodyError::TooLarge)) => {
            let message = format!("a request may have {LIMIT} bytes\n");
            return malformed(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message);
        }
        Ok(Err(BodyError::EndedEarly)) => {
            return malformed(StatusCode::BAD_REQUEST, "ended-early", "the body ended early\n".into());
        }
        Err(_) => return malformed(StatusCode::REQUEST_TIMEOUT, "slow", "the body took too long\n".into()),
    };
    let request = match review::read(&bytes) {
        Ok(request) => request,
        Err(message) => return malformed(StatusCode::BAD_REQUEST, "unreadable", message + "\n"),
    };
    let judged = async {
        match path {
            Path::MutatePods => admission.mutator.judge(&request).await,
            Path::Validate => admission.validator.judge(&request).await,
        }
    };
    // One bad object must not end the connection, which carries all requests of an API server.
    let verdict = AssertUnwindSafe(judged).catch_unwind().await.unwrap_or_else(|_| Verdict::Failed {
        why: "panic",
        message: "ursa-webhook failed at this, which is a fault of its own: its log says where".to_owned(),
    });
    let (result, why) = match &verdict {
        Verdict::Allowed(why) => ("unchanged", *why),
        Verdict::Patched(_) => ("patched", "injected"),
        Verdict::Refused { why, message, .. } => {
            tracing::info!(path = path.name(), namespace = request.namespace, told = message, "refused");
            ("refused", *why)
        }
        Verdict::Failed { why, message } => {
            tracing::warn!(path = path.name(), namespace = request.namespace, told = message, "failed");
            ("failed", *why)
        }
    };
    (result, why, Json(review::answer(&request.uid, &verdict)).into_response())
}
