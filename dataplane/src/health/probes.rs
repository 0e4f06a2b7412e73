//! The table of the application's probes, as the webhook takes them from the pod.
//!
//! Invariant: a probe of the table can be asked: paths, headers and ports are good. One that cannot be is known with the
//! reason, and takes nothing from the others: a newer webhook may know more.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::Deserialize;

/// Probes by `<container>/<startup|liveness|readiness>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probes(BTreeMap<String, Result<Probe, String>>);

/// One probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// What to do.
    pub action: Action,
    /// Time after which it has failed.
    pub timeout: Duration,
}

/// A way to probe.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A GET request succeeds.
    Http(Http),
    /// A connection opens at this port.
    Tcp(u16),
    /// A call of `grpc.health.v1.Health/Check` succeeds.
    Grpc {
        /// The port.
        port: u16,
        /// The service to ask for; empty: the server.
        service: String,
    },
}

/// A GET request.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// The port.
    pub port: u16,
    /// What to ask for; with or without the first slash.
    pub path: String,
    /// By TLS; the certificate is not looked at.
    pub tls: bool,
    /// What to say in `Host`; the address if left out. The application is asked whatever this says.
    pub host: Option<String>,
    /// More headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Why a text is no table of probes.
#[derive(Debug, thiserror::Error)]
#[error("the table of probes cannot be read: {0}")]
pub struct ParseProbesError(#[from] serde_json::Error);

impl Probes {
    /// The probe of this key, or why it cannot be asked.
    pub fn get(&self, key: &str) -> Option<Result<&Probe, &str>> {
        self.0.get(key).map(|probe| probe.as_ref().map_err(String::as_str))
    }

    /// Those that cannot be asked, with the reason.
    pub fn bad(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(key, probe)| Some((key.as_str(), probe.as_ref().err()?.as_str())))
    }
}

impl FromStr for Probes {
    type Err = ParseProbesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let entries: BTreeMap<String, serde_json::Value> = serde_json::from_str(text)?;
        let parse = |(key, entry): (String, _)| {
            let probe = check_key(&key).and_then(|()| {
                let entry: Entry = serde_json::from_value(entry).map_err(|error| error.to_string())?;
                entry.probe()
            });
            (key, probe)
        };
        Ok(Self(entries.into_iter().map(parse).collect()))
    }
}

fn check_key(key: &str) -> Result<(), String> {
    match key.split_once('/') {
        Some((container, "startup" | "liveness" | "readiness")) if !container.is_empty() => Ok(()),
        _ => Err("the key must be <container>/<startup|liveness|readiness>".into()),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    http: Option<HttpEntry>,
    tcp: Option<TcpEntry>,
    grpc: Option<GrpcEntry>,
    timeout_seconds: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpEntry {
    port: u16,
    #[serde(default)]
    path: String,
    scheme: Option<String>,
    host: Option<String>,
    #[serde(default)]
    headers: Vec<HeaderEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderEntry {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TcpEntry {
    port: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrpcEntry {
    port: u16,
    #[serde(default)]
    service: String,
}

impl Entry {
    fn probe(self) -> Result<Probe, String> {
        let Self { http, tcp, grpc, timeout_seconds } = self;
        let action = match (http, tcp, grpc) {
            (Some(http), None, None) => Action::Http(http.parse()?),
            (None, Some(TcpEntry { port }), None) => Action::Tcp(port),
            (None, None, Some(GrpcEntry { port, service })) => Action::Grpc { port, service },
            _ => return Err("it must have one of http, tcp and grpc".into()),
        };
        // The kubelet's default, also for the 0 that some clients write.
        let seconds = timeout_seconds.unwrap_or(1).max(1);
        Ok(Probe { action, timeout: Duration::from_secs(seconds.into()) })
    }
}

impl HttpEntry {
    fn parse(self) -> Result<Http, String> {
        let Self { port, path, scheme, host, headers } = self;
        let tls = match scheme.as_deref() {
            None | Some("HTTP") => false,
            Some("HTTPS") => true,
            Some(other) => return Err(format!("the scheme {other:?} must be HTTP or HTTPS")),
        };
        let host = host.filter(|host| !host.is_empty());
        if let Some(host) = &host {
            let authority = format!("{}:{port}", bracketed(host));
            if authority.parse::<http::uri::Authority>().is_err() || authority.contains('@') {
                return Err(format!("{host:?} is no host"));
            }
        }
        let header = |HeaderEntry { name, value }: HeaderEntry| {
            let parsed = (HeaderName::from_str(&name), HeaderValue::from_str(&value));
            let (Ok(header), Ok(value)) = parsed else {
                return Err(format!("the header {name:?} cannot be sent"));
            };
            Ok((header, value))
        };
        let headers = headers.into_iter().map(header).collect::<Result<_, _>>()?;
        Ok(Http { port, path, tls, host, headers })
    }
}

/// A host as it stands before a port.
pub(super) fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(text: &str) -> Result<Probe, String> {
        let probes: Probes = format!("{{\"web/readiness\": {text}}}").parse().unwrap();
        probes.get("web/readiness").unwrap().cloned().map_err(str::to_owned)
    }

    #[test]
    fn the_table_is_read_as_the_webhook_writes_it() {
        let seconds = Duration::from_secs;
        let http = r#"{"http": {"port": 8080, "path": "/x", "scheme": "HTTPS", "host": "web", "headers":
            [{"name": "X-Probe", "value": "a b"}]}, "timeoutSeconds": 3}"#;
        let action = Action::Http(Http {
            port: 8080,
            path: "/x".into(),
            tls: true,
            host: Some("web".into()),
            headers: vec![(HeaderName::from_static("x-probe"), HeaderValue::from_static("a b"))],
        });
        assert_eq!(probe(http), Ok(Probe { action, timeout: seconds(3) }));
        let tcp = Probe { action: Action::Tcp(6379), timeout: seconds(1) };
        assert_eq!(probe(r#"{"tcp": {"port": 6379}, "timeoutSeconds": 0}"#), Ok(tcp));
        let action = Action::Grpc { port: 50051, service: "x".into() };
        assert_eq!(
            probe(r#"{"grpc": {"port": 50051, "service": "x"}}"#),
            Ok(Probe { action, timeout: seconds(1) })
        );
        assert_eq!("{}".parse::<Probes>().unwrap(), Probes::default());
    }

    #[test]
    fn what_cannot_be_asked_is_known_with_the_reason() {
        for (text, reason) in [
            ("{}", "must have one of"),
            (r#"{"tcp": {"port": 1}, "grpc": {"port": 1}}"#, "must have one of"),
            (r#"{"tcp": {"port": 65536}}"#, "65536"),
            (r#"{"tcp": {"port": 1, "host": "x"}}"#, "host"),
            (r#"{"exec": {}}"#, "exec"),
            (r#"{"http": {"port": 1, "scheme": "FTP"}}"#, "FTP"),
            (r#"{"http": {"port": 1, "host": "a b"}}"#, "a b"),
            (r#"{"http": {"port": 1, "headers": [{"name": "A B", "value": ""}]}}"#, "A B"),
            (r#"{"http": {"port": 1, "headers": [{"name": "A", "value": "\r\nB: c"}]}}"#, "\"A\""),
        ] {
            let error = probe(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        for key in ["web", "web/ready", "/readiness", "web/x/readiness"] {
            let probes: Probes = format!("{{\"{key}\": {{\"tcp\": {{\"port\": 1}}}}}}").parse().unwrap();
            let error = probes.get(key).unwrap().unwrap_err();
            assert!(error.starts_with("the key must be"), "{error}");
        }
        assert!("[]".parse::<Probes>().is_err() && "{".parse::<Probes>().is_err());
    }

    #[test]
    fn a_probe_that_cannot_be_asked_takes_nothing_from_the_others() {
        let text = r#"{"web/liveness": {"new": "form"}, "web/readiness": {"tcp": {"port": 1}}}"#;
        let probes: Probes = text.parse().unwrap();
        assert!(probes.get("web/readiness").unwrap().is_ok());
        let bad: Vec<_> = probes.bad().collect();
        assert!(matches!(bad[..], [("web/liveness", reason)] if reason.contains("new")), "{bad:?}");
    }
}
