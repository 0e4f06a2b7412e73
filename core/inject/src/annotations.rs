//! What a pod's annotations wish of its sidecar. They are the only ones of Ursa: any other is refused.

use std::fmt::Display;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ursa_crds::{DEFAULT_MESH, Duration};
use ursa_model::SpiffeId;
use ursa_redirect::{Cidrs, Ports};

use crate::names::{
    INJECTION_LABEL, MESH_ANNOTATION, PREFIX, SERVICE_ANNOTATION, STATUS_ANNOTATION, TAGS_ANNOTATION,
};
use crate::tags::parse_tags;
use crate::{Cause, SidecarMode, quantity};

const EXCLUDE_INBOUND_PORTS: &str = "ursamesh.io/exclude-inbound-ports";
const EXCLUDE_OUTBOUND_PORTS: &str = "ursamesh.io/exclude-outbound-ports";
const EXCLUDE_OUTBOUND_CIDRS: &str = "ursamesh.io/exclude-outbound-cidrs";
pub(crate) const CPU_REQUEST: &str = "ursamesh.io/proxy-cpu-request";
pub(crate) const CPU_LIMIT: &str = "ursamesh.io/proxy-cpu-limit";
pub(crate) const MEMORY_REQUEST: &str = "ursamesh.io/proxy-memory-request";
pub(crate) const MEMORY_LIMIT: &str = "ursamesh.io/proxy-memory-limit";
const LOG_LEVEL: &str = "ursamesh.io/proxy-log-level";
const CONCURRENCY: &str = "ursamesh.io/proxy-concurrency";
const DRAIN_TIME: &str = "ursamesh.io/proxy-drain-time";
const MODE: &str = "ursamesh.io/sidecar-mode";

/// As messages list them.
const KNOWN: [&str; 14] = [
    MESH_ANNOTATION,
    SERVICE_ANNOTATION,
    TAGS_ANNOTATION,
    EXCLUDE_INBOUND_PORTS,
    EXCLUDE_OUTBOUND_PORTS,
    EXCLUDE_OUTBOUND_CIDRS,
    CPU_REQUEST,
    CPU_LIMIT,
    MEMORY_REQUEST,
    MEMORY_LIMIT,
    LOG_LEVEL,
    CONCURRENCY,
    DRAIN_TIME,
    MODE,
];

pub(crate) const LOG_LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
const MAX_CONCURRENCY: u32 = 128;

/// What differs from the settings of the cluster.
#[derive(Debug)]
pub(crate) struct Wishes {
    pub(crate) mesh: String,
    pub(crate) exclude_inbound_ports: Ports,
    pub(crate) exclude_outbound_ports: Ports,
    pub(crate) exclude_outbound_cidrs: Cidrs,
    pub(crate) resources: Resources,
    pub(crate) log_level: Option<String>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) drain_time: Option<Duration>,
    pub(crate) mode: Option<SidecarMode>,
}

/// Quantities, as they were written.
#[derive(Debug)]
pub(crate) struct Resources {
    pub(crate) cpu_request: Option<String>,
    pub(crate) cpu_limit: Option<String>,
    pub(crate) memory_request: Option<String>,
    pub(crate) memory_limit: Option<String>,
}

impl Wishes {
    /// Reads all annotations of a pod, and the mesh of its namespace.
    pub(crate) fn read(pod: &ObjectMeta, namespace: &ObjectMeta) -> Result<Self, Cause> {
        all_known(pod)?;
        let pod = Annotations { meta: pod, owner: "pod" };
        let namespace = Annotations { meta: namespace, owner: "namespace" };
        let mesh = match pod.checked(MESH_ANNOTATION, mesh)? {
            Some(mesh) => mesh,
            None => namespace.checked(MESH_ANNOTATION, mesh)?.unwrap_or_else(|| DEFAULT_MESH.to_owned()),
        };
        // The control plane reads these two from the pod itself.
        pod.checked(SERVICE_ANNOTATION, service)?;
        pod.checked(TAGS_ANNOTATION, parse_tags)?;
        let quantity = |name| pod.checked(name, quantity);
        Ok(Self {
            mesh,
            exclude_inbound_ports: pod.checked(EXCLUDE_INBOUND_PORTS, parsed)?.unwrap_or_default(),
            exclude_outbound_ports: pod.checked(EXCLUDE_OUTBOUND_PORTS, outbound_ports)?.unwrap_or_default(),
            exclude_outbound_cidrs: pod.checked(EXCLUDE_OUTBOUND_CIDRS, parsed)?.unwrap_or_default(),
            resources: Resources {
                cpu_request: quantity(CPU_REQUEST)?,
                cpu_limit: quantity(CPU_LIMIT)?,
                memory_request: quantity(MEMORY_REQUEST)?,
                memory_limit: quantity(MEMORY_LIMIT)?,
            },
            log_level: pod.checked(LOG_LEVEL, log_level)?,
            concurrency: pod.checked(CONCURRENCY, concurrency)?,
            drain_time: pod.checked(DRAIN_TIME, parsed)?,
            mode: pod.checked(MODE, mode)?,
        })
    }
}

struct Annotations<'a> {
    meta: &'a ObjectMeta,
    owner: &'static str,
}

impl Annotations<'_> {
    /// The value as the check reads it; what the check says is wrong becomes a refusal.
    fn checked<T>(
        &self,
        name: &'static str,
        check: fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Cause> {
        let Some(value) = self.meta.annotations.as_ref().and_then(|all| all.get(name)) else {
            return Ok(None);
        };
        let refused = |right| Cause::Annotation { name, owner: self.owner, value: value.clone(), right };
        check(value).map(Some).map_err(refused)
    }
}

fn all_known(pod: &ObjectMeta) -> Result<(), Cause> {
    for name in pod.annotations.iter().flat_map(|all| all.keys()) {
        if !name.starts_with(PREFIX) || KNOWN.contains(&name.as_str()) || name == STATUS_ANNOTATION {
            continue;
        }
        let advice = if name == INJECTION_LABEL {
            "it is a label: write it under metadata.labels".to_owned()
        } else {
            format!("those that there are: {}", KNOWN.join(", "))
        };
        return Err(Cause::UnknownAnnotation { name: name.clone(), advice });
    }
    Ok(())
}

fn parsed<T: FromStr<Err: Display>>(value: &str) -> Result<T, String> {
    value.parse().map_err(|error: T::Err| error.to_string())
}

fn mesh(value: &str) -> Result<String, String> {
    let right = || {
        "write the name of a mesh: 1 to 63 of [a-z0-9-], beginning and ending with a letter or digit".into()
    };
    SpiffeId::is_label(value).then(|| value.to_owned()).ok_or_else(right)
}

fn service(value: &str) -> Result<(), String> {
    SpiffeId::is_segment(value)
        .then_some(())
        .ok_or_else(|| "write the name of a service: 1 to 253 of [A-Za-z0-9._-]".into())
}

fn outbound_ports(value: &str) -> Result<Ports, String> {
    let ports: Ports = parsed(value)?;
    let settings = ursa_redirect::Settings { exclude_outbound_ports: ports, ..Default::default() };
    settings.check().map_err(|_| "port 53 is DNS, which the mesh answers: leave 53 out".to_owned())?;
    Ok(settings.exclude_outbound_ports)
}

fn quantity(value: &str) -> Result<String, String> {
    quantity::amount(value)
        .map(|_| value.to_owned())
        .ok_or_else(|| "write a quantity, such as 100m for CPU or 128Mi for memory".to_owned())
}

fn log_level(value: &str) -> Result<String, String> {
    let known = LOG_LEVELS.contains(&value).then(|| value.to_owned());
    known.ok_or_else(|| format!("write one of {}", LOG_LEVELS.join(", ")))
}

fn concurrency(value: &str) -> Result<u32, String> {
    let threads = value.parse().ok().filter(|threads| (1..=MAX_CONCURRENCY).contains(threads));
    threads.ok_or_else(|| format!("write how many threads the proxy is to have, from 1 to {MAX_CONCURRENCY}"))
}

fn mode(value: &str) -> Result<SidecarMode, String> {
    match value {
        "Native" => Ok(SidecarMode::Native),
        "Container" => Ok(SidecarMode::Container),
        _ => Err("write Native or Container".to_owned()),
    }
}
