//! The resource that this proxy is: its bytes go to the control plane, which judges them; the agent itself reads
//! only its name, its inbounds and their probes.
//!
//! Invariant: the agent refuses nothing that the control plane would accept, unless it cannot act on it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use ursa_model::ProxyId;

use crate::config::ProxyType;
use crate::duration;

/// The Dataplane resource as far as the agent needs it.
#[derive(Clone, Debug)]
pub struct DataplaneFile {
    /// The whole resource.
    pub bytes: Vec<u8>,
    /// The proxy that it describes.
    pub proxy: ProxyId,
    /// Ports of its inbounds, ordered as in the resource.
    pub inbounds: Vec<u16>,
    /// What to probe, ordered as in the resource.
    pub probes: Vec<ProbeSpec>,
    /// Whether the kernel sends it what the workload sends and is sent, DNS included.
    pub captured: bool,
}

/// How to find out whether the application behind an inbound is ready.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeSpec {
    /// The inbound's port.
    pub inbound_port: u16,
    /// Where the application listens.
    pub target: SocketAddr,
    /// What to do there.
    pub check: Check,
    /// Time between two probes.
    pub interval: Duration,
    /// Time after which a probe has failed.
    pub timeout: Duration,
    /// Failures in a row that take the application out.
    pub unhealthy_threshold: u32,
    /// Successes in a row that bring it back.
    pub healthy_threshold: u32,
}

/// A way to probe.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// A connection opens.
    Tcp,
    /// A GET request is answered.
    Http {
        /// What to ask for.
        path: String,
        /// Statuses that mean ready; empty: 200 to 399.
        expected: Vec<u16>,
    },
}

/// Why the resource cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneFileError {
    /// The file cannot be read.
    #[error("cannot read the Dataplane in {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no Dataplane.
    #[error("{path} holds no Dataplane: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// Reads the resource, of the given type if there is one, from its file.
pub fn read(path: &Path, proxy_type: Option<ProxyType>) -> Result<DataplaneFile, DataplaneFileError> {
    let bytes =
        std::fs::read(path).map_err(|source| DataplaneFileError::Io { path: path.to_owned(), source })?;
    parse(bytes, proxy_type).map_err(|message| DataplaneFileError::Invalid { path: path.to_owned(), message })
}

/// What the agent of a pod knows: the control plane discovers the rest, and the kubelet probes.
pub fn of_pod(mesh: &str, namespace: &str, name: &str) -> DataplaneFile {
    let proxy = ProxyId::new(mesh, &format!("{name}.{namespace}"));
    DataplaneFile { bytes: Vec::new(), proxy, inbounds: Vec::new(), probes: Vec::new(), captured: true }
}

/// What the agent in a pod of a zone ingress knows.
pub fn of_ingress(ingress: &str, pod: &str) -> DataplaneFile {
    let proxy = ProxyId::replica(ingress, pod);
    DataplaneFile { bytes: Vec::new(), proxy, inbounds: Vec::new(), probes: Vec::new(), captured: false }
}

fn parse(bytes: Vec<u8>, proxy_type: Option<ProxyType>) -> Result<DataplaneFile, String> {
    let text = std::str::from_utf8(&bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    let Resource { kind, metadata, spec } =
        serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    if let Some(wanted) = proxy_type.map(ProxyType::kind)
        && kind != wanted
    {
        return Err(format!("kind is {kind:?}, expected {wanted} because of the proxy type"));
    }
    let mesh = match kind.as_str() {
        "Dataplane" => spec.mesh,
        // A zone ingress serves all meshes and is in none.
        "ZoneIngress" => String::new(),
        _ => return Err(format!("kind is {kind:?}, expected Dataplane or ZoneIngress")),
    };
    let proxy = ProxyId::parse(&format!("{mesh}/{}", metadata.name))
        .filter(|proxy| proxy.pod().is_none())
        .ok_or_else(|| format!("metadata.name {:?} is no name", metadata.name))?;
    let captured = spec.networking.capture.is_some();
    let inbounds = spec.networking.inbound.iter().map(|inbound| inbound.port).collect();
    let probes = spec.networking.inbound.into_iter().filter_map(Inbound::probe).collect::<Result<_, _>>()?;
    Ok(DataplaneFile { bytes, proxy, inbounds, probes, captured })
}

#[derive(Deserialize)]
struct Resource {
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default = "default_mesh")]
    mesh: String,
    networking: Networking,
}

#[derive(Deserialize)]
struct Networking {
    #[serde(default)]
    inbound: Vec<Inbound>,
    capture: Option<Capture>,
}

#[derive(Deserialize)]
struct Capture {}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inbound {
    port: u16,
    service_address: Option<IpAddr>,
    service_port: Option<u16>,
    readiness_probe: Option<Probe>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    tcp: Option<Tcp>,
    http: Option<Http>,
    #[serde(default = "one_second", deserialize_with = "duration::deserialize")]
    interval: Duration,
    #[serde(default = "one_second", deserialize_with = "duration::deserialize")]
    timeout: Duration,
    #[serde(default = "two")]
    unhealthy_threshold: u32,
    #[serde(default = "one")]
    healthy_threshold: u32,
}

#[derive(Deserialize)]
struct Tcp {}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Http {
    path: String,
    #[serde(default)]
    expected_statuses: Vec<u16>,
}

fn default_mesh() -> String {
    "default".into()
}

const fn one_second() -> Duration {
    Duration::from_secs(1)
}

const fn one() -> u32 {
    1
}

const fn two() -> u32 {
    2
}

/// A probe is no load: however short the resource says, this much lies between two.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

impl Inbound {
    fn probe(self) -> Option<Result<ProbeSpec, String>> {
        let Self { port, service_address, service_port, readiness_probe } = self;
        let Probe { tcp, http, interval, timeout, unhealthy_threshold, healthy_threshold } = readiness_probe?;
        let check = match (tcp, http) {
            (Some(Tcp {}), None) => Check::Tcp,
            (None, Some(Http { path, expected_statuses })) => {
                if !path.starts_with('/') || path.bytes().any(|b| b <= b' ' || b == 0x7f) {
                    return Some(Err(format!(
                        "the readiness probe of inbound {port} has a path that is none: {path:?}"
                    )));
                }
                Check::Http { path, expected: expected_statuses }
            }
            _ => {
                return Some(Err(format!(
                    "the readiness probe of inbound {port} must name exactly one of tcp and http"
                )));
            }
        };
        let address = service_address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Some(Ok(ProbeSpec {
            inbound_port: port,
            target: SocketAddr::new(address, service_port.unwrap_or(port)),
            check,
            interval: interval.max(SHORTEST_INTERVAL),
            timeout,
            unhealthy_threshold,
            healthy_threshold,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "
apiVersion: ursamesh.io/v1alpha1
kind: Dataplane
metadata: {name: web-1}
spec:
  networking:
    address: 10.0.0.5
    inbound:
    - {port: 80, servicePort: 8080, tags: {ursamesh.io/service: web}, readinessProbe: {http: {path: /ready, expectedStatuses: [204]}, interval: 500ms}}
    - {port: 81, serviceAddress: 10.0.0.6, tags: {ursamesh.io/service: web}, readinessProbe: {tcp: {}, unhealthyThreshold: 5}}
    - {port: 82, tags: {ursamesh.io/service: web}}
";

    #[test]
    fn name_inbounds_and_probes_are_read_with_their_defaults() {
        let file = parse(WEB.into(), Some(ProxyType::Dataplane)).unwrap();
        assert_eq!(file.proxy.to_string(), "default/web-1");
        assert_eq!(file.inbounds, [80, 81, 82]);
        let http = ProbeSpec {
            inbound_port: 80,
            target: "127.0.0.1:8080".parse().unwrap(),
            check: Check::Http { path: "/ready".into(), expected: vec![204] },
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(1),
            unhealthy_threshold: 2,
            healthy_threshold: 1,
        };
        let tcp = ProbeSpec {
            inbound_port: 81,
            target: "10.0.0.6:81".parse().unwrap(),
            check: Check::Tcp,
            interval: Duration::from_secs(1),
            unhealthy_threshold: 5,
            ..http.clone()
        };
        assert_eq!(file.probes, [http, tcp]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (change, expected) in [
            (("kind: Dataplane", "kind: Mesh"), "kind is \"Mesh\""),
            (("name: web-1", "name: a/b"), "metadata.name \"a/b\""),
            (("tcp: {}, ", ""), "inbound 81 must name exactly one"),
            (("interval: 500ms", "interval: 500"), "not a duration"),
        ] {
            let error = parse(WEB.replace(change.0, change.1).into(), None).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let error = parse(WEB.into(), Some(ProxyType::Ingress)).unwrap_err();
        assert!(error.contains("expected ZoneIngress"), "{error}");
    }
}
