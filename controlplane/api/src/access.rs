//! Who may ask: a user's token in the group `admin`, checked before anything else. No caller is trusted for where it
//! comes from; a browser that was lured here by a foreign name or page is turned away.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use crate::ApiState;
use crate::problem::Problem;

/// The group that may do everything.
const ADMIN: &str = "admin";

pub(crate) async fn check(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    match allowed(&state, &request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn allowed(state: &ApiState, request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    // HTTP/2 has the host in the request's target.
    let host = request
        .uri()
        .authority()
        .map(axum::http::uri::Authority::as_str)
        .or_else(|| text(headers, header::HOST));
    if !host.is_some_and(|host| known_host(state, host)) {
        return Err(Problem::forbidden("the API is not served under this host name; see --tls-name"));
    }
    let origin = text(headers, header::ORIGIN);
    if origin.is_some_and(|origin| origin.split_once("://").map(|(_, from)| from) != host) {
        return Err(Problem::forbidden("requests from other origins are not served"));
    }
    let token = text(headers, header::AUTHORIZATION)
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or_else(|| Problem::unauthorized("a token is required: Authorization: Bearer TOKEN"))?;
    let user = state
        .tokens
        .verify_user(token.trim(), Timestamp::now())
        .map_err(|error| Problem::unauthorized(error.to_string()))?;
    if user.groups.iter().any(|group| group == ADMIN) {
        Ok(())
    } else {
        Err(Problem::forbidden(format!("{} is not in the group {ADMIN}", user.name)))
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn known_host(state: &ApiState, host: &str) -> bool {
    let name = without_port(host);
    let loopback = name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    loopback || name == "localhost" || state.hosts.iter().any(|known| known == name)
}

fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}
