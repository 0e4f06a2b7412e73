//! The counter application: a page, and two requests that reach a zone's Redis through the mesh.
//!
//! Invariant: every request is answered within two seconds, whatever the other side does.

mod redis;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Args;
use serde::Serialize;
use tokio::net::TcpListener;

pub use redis::{RedisError, Reply, call};

/// For the whole exchange with Redis, so that the answer is out before two seconds have passed.
const DEADLINE: Duration = Duration::from_millis(1_800);
const PAGE: &str = include_str!("app/page.html");

/// Flags of `ursa-demo app`.
#[derive(Clone, Debug, Args)]
pub struct AppArgs {
    /// Where to serve.
    #[arg(long, default_value = "127.0.0.1:5000")]
    pub listen: SocketAddr,
    /// Where Redis is, HOST:PORT: the outbound of this application's proxy, or its name in the mesh.
    #[arg(long, default_value = "127.0.0.1:26379")]
    pub redis: String,
    /// The zone that this application says it is in.
    #[arg(long)]
    pub zone: String,
    /// The version that this application says it has.
    #[arg(long, default_value = "v1")]
    pub version: String,
}

/// What both requests answer.
#[derive(Debug, Serialize)]
struct Answer {
    counter: i64,
    /// The zone of the Redis that answered.
    zone: String,
    app: Identity,
}

#[derive(Clone, Debug, Serialize)]
struct Identity {
    zone: String,
    version: String,
}

#[derive(Debug, Serialize)]
struct Failure {
    error: String,
}

#[derive(Clone)]
struct App {
    redis: Arc<str>,
    identity: Identity,
}

/// Serves until the process ends.
pub async fn run(args: AppArgs) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    tracing::info!(listen = %args.listen, redis = args.redis, zone = args.zone, version = args.version, "serving");
    axum::serve(listener, router(&args)).await.context("serving failed")
}

/// The application's routes.
pub fn router(args: &AppArgs) -> Router {
    let identity = Identity { zone: args.zone.clone(), version: args.version.clone() };
    Router::new()
        .route("/", get(page))
        .route("/healthz", get(async || "ok\n"))
        .route("/counter", get(async |State(app): State<App>| app.answer("GET").await))
        .route("/increment", post(async |State(app): State<App>| app.answer("INCR").await))
        .with_state(App { redis: args.redis.as_str().into(), identity })
}

async fn page(State(app): State<App>) -> Response {
    // The page is all there is: nothing from elsewhere may run in it.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:";
    let Identity { zone, version } = &app.identity;
    let page = PAGE.replace("ZONE", &escaped(zone)).replace("VERSION", &escaped(version));
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(page)).into_response()
}

/// As text in HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

impl App {
    /// Runs the command on the counter; the zone's name comes over the same connection, so it is that Redis's.
    async fn answer(&self, command: &'static str) -> Response {
        match call(&*self.redis, &[&[command, "counter"], &["GET", "zone"]], DEADLINE)
            .await
            .and_then(|r| read(&r))
        {
            Ok((counter, zone)) => Json(Answer { counter, zone, app: self.identity.clone() }).into_response(),
            Err(error) => {
                let error = format!("redis at {}: {error}", self.redis);
                tracing::warn!(error, command, "no answer from redis");
                (StatusCode::SERVICE_UNAVAILABLE, Json(Failure { error })).into_response()
            }
        }
    }
}

fn read(replies: &[Reply]) -> Result<(i64, String), RedisError> {
    let [counter, zone] = replies else {
        return Err(RedisError::Unexpected(format!("{} replies to 2 commands", replies.len())));
    };
    let counter = match counter {
        Reply::Integer(number) => *number,
        Reply::Text(text) => text
            .parse()
            .map_err(|_| RedisError::Unexpected("the key counter does not hold a number".into()))?,
        Reply::Nil => 0, // nobody has incremented it yet
    };
    match zone {
        Reply::Text(zone) => Ok((counter, zone.clone())),
        _ => Err(RedisError::Unexpected("the key zone is not set there".into())),
    }
}
