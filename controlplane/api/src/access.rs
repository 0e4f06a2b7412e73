//! Who may ask: a user's token in the group `admin`, checked before anything else. No caller is trusted for where it
//! comes from; a browser that was lured here by a foreign name or page is turned away, whatever token it has.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use ursa_identity::UserClaims;

use crate::ApiState;
use crate::problem::Problem;

/// The group that may do everything.
const ADMIN: &str = "admin";

pub(crate) async fn check(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let user = match allowed(&state, &request) {
        Ok(user) => user,
        Err(problem) => return problem.into_response(),
    };
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    // A backup holds all keys.
    if !method.is_safe() || path == "/backup" {
        tracing::info!(user = user.name, %method, path, status = response.status().as_u16(), "request");
    }
    response
}

fn allowed(state: &ApiState, request: &Request) -> Result<UserClaims, Problem> {
    let headers = request.headers();
    let user = state
        .tokens
        .verify_user(bearer(headers)?, Timestamp::now())
        .map_err(|error| Problem::unauthorized(error.to_string()))?;
    if !user.groups.iter().any(|group| group == ADMIN) {
        return Err(Problem::forbidden(format!("{} is not in the group {ADMIN}", user.name)));
    }
    same_site(&state.hosts, request.uri(), headers)?;
    Ok(user)
}

/// The token in `Authorization`. Source: RFC 6750 §2.1; the scheme's case does not matter (RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let value = text(headers, &header::AUTHORIZATION).and_then(|value| value.split_once(' '));
    match value {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(Problem::unauthorized("a token is required: Authorization: Bearer TOKEN")),
    }
}

/// Refuses a name that is not the server's (a page can point its own name at this address), and a page of another
/// origin.
fn same_site(hosts: &[String], target: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    // HTTP/2 has the host in the request's target.
    let host =
        target.authority().map(axum::http::uri::Authority::as_str).or_else(|| text(headers, &header::HOST));
    let Some(host) = host.filter(|host| known_host(hosts, host)) else {
        return Err(Problem::forbidden("the API is not served under this host name; see --tls-name"));
    };
    if headers.contains_key(header::ORIGIN) {
        let origin = text(headers, &header::ORIGIN).and_then(|origin| origin.split_once("://"));
        if !origin.is_some_and(|(_, from)| from.eq_ignore_ascii_case(host)) {
            return Err(Problem::forbidden("requests from pages of other origins are not served"));
        }
    }
    Ok(())
}

/// A header that is there once, and readable.
fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn known_host(hosts: &[String], host: &str) -> bool {
    let name = without_port(host);
    let name = name.strip_suffix('.').unwrap_or(name);
    let loopback = name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let known = |known: &str| known.eq_ignore_ascii_case(name);
    loopback || known("localhost") || hosts.iter().any(|host| known(host))
}

fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(host: &[&str], origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        for host in host {
            headers.append(header::HOST, host.parse().unwrap());
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        same_site(&["cp.example".into(), "192.0.2.7".into()], &Uri::from_static("/meshes"), &headers).is_ok()
    }

    #[test]
    fn loopback_and_the_servers_own_names_are_served() {
        for host in ["localhost:5681", "LocalHost", "127.0.0.1:5681", "127.1.2.3", "[::1]:5681", "[::1]"] {
            assert!(served(&[host], None), "{host}");
        }
        for host in ["cp.example", "CP.example.:5682", "192.0.2.7:5682"] {
            assert!(served(&[host], None), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.8", "", "["]
        {
            assert!(!served(&[host], None), "{host}");
        }
        assert!(!served(&[], None));
        assert!(!served(&["localhost", "evil.example"], None));
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        assert!(served(&["localhost:5681"], Some("http://localhost:5681")));
        assert!(served(&["cp.example"], Some("https://CP.example")));
        for origin in
            ["http://localhost:8080", "http://localhost", "http://evil.example", "null", "localhost:5681", ""]
        {
            assert!(!served(&["localhost:5681"], Some(origin)), "{origin}");
        }
    }

    #[test]
    fn the_target_of_http_2_counts_as_the_host() {
        let headers = HeaderMap::new();
        assert!(same_site(&[], &Uri::from_static("https://127.0.0.1:5682/meshes"), &headers).is_ok());
        assert!(same_site(&[], &Uri::from_static("https://evil.example/meshes"), &headers).is_err());
    }
}
