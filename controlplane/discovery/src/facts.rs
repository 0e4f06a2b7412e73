//! What of Kubernetes' objects matters to a mesh. What does not (heartbeats, annotations of others, statuses) is left out,
//! so that it cannot cause anything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use ursa_crds::Tags;

/// The sidecar's environment variable that names its mesh.
const MESH: &str = "URSA_DP_MESH";
/// Labels and annotations that mean something to Ursa.
const OURS: &str = "ursamesh.io/";
/// The label that tells apart what a Deployment makes.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// An object of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Name {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// As services and proxies are called: `<name>.<namespace>`.
    pub(crate) fn dotted(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }
}

/// A pod with a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodFacts {
    pub(crate) name: Name,
    pub(crate) uid: String,
    pub(crate) mesh: String,
    pub(crate) address: IpAddr,
    pub(crate) created: Option<Timestamp>,
    /// It is told to stop: the news comes sooner than that of its endpoints.
    pub(crate) stopping: bool,
    /// The kubelet says that its proxy has started.
    pub(crate) started: bool,
    /// What made it: a Deployment, a StatefulSet, …; itself if nothing did.
    pub(crate) workload: String,
    /// As Services see it.
    pub(crate) labels: Tags,
    /// From labels and the annotation.
    pub(crate) tags: Tags,
    /// The service that its annotation wishes to have in its certificate.
    pub(crate) wished_service: Option<String>,
}

/// `None`: not in any mesh, or not yet, or not any more.
pub(crate) fn pod(pod: &Pod) -> Option<PodFacts> {
    let (spec, status, meta) = (pod.spec.as_ref()?, pod.status.as_ref()?, &pod.metadata);
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) || spec.host_network == Some(true) {
        return None;
    }
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let sidecar =
        containers.into_iter().find(|container| container.name == ursa_inject::SIDECAR_CONTAINER)?;
    let mesh = sidecar.env.iter().flatten().find(|variable| variable.name == MESH)?.value.clone()?;
    let name = Name::new(meta.namespace.as_deref()?, meta.name.as_deref()?);
    let labels: Tags = meta.labels.clone().unwrap_or_default();
    let mut tags: Tags = labels.clone();
    let annotation = |name: &str| meta.annotations.as_ref().and_then(|all| all.get(name));
    let further = annotation(ursa_inject::TAGS_ANNOTATION);
    // The injector refuses what is malformed.
    tags.extend(further.and_then(|text| ursa_inject::parse_tags(text).ok()).unwrap_or_default());
    // What Ursa says of a pod, nobody else does.
    tags.retain(|key, _| !key.starts_with(OURS) && key != TEMPLATE_HASH);
    let mut statuses = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    Some(PodFacts {
        uid: meta.uid.clone()?,
        mesh,
        address: status.pod_ip.as_deref()?.parse().ok()?,
        created: meta.creation_timestamp.as_ref().map(|time| time.0),
        stopping: meta.deletion_timestamp.is_some(),
        started: statuses.any(|of| of.name == ursa_inject::SIDECAR_CONTAINER && of.started == Some(true)),
        workload: workload(pod).unwrap_or_else(|| name.name.clone()),
        labels,
        tags,
        wished_service: annotation(ursa_inject::SERVICE_ANNOTATION).cloned(),
        name,
    })
}

/// The name of what made the pod.
fn workload(pod: &Pod) -> Option<String> {
    let owners = pod.metadata.owner_references.as_ref()?;
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    let hash = pod.metadata.labels.as_ref().and_then(|labels| labels.get(TEMPLATE_HASH));
    let deployment = hash.and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
    Some(match (owner.kind.as_str(), deployment) {
        ("ReplicaSet", Some(deployment)) => deployment.to_owned(),
        // A CronJob's Jobs are called by the minute.
        ("Job", _) => {
            let cron = owner
                .name
                .rsplit_once('-')
                .filter(|(_, minute)| minute.len() >= 8 && minute.bytes().all(|byte| byte.is_ascii_digit()));
            cron.map_or_else(|| owner.name.clone(), |(cron, _)| cron.to_owned())
        }
        _ => owner.name.clone(),
    })
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceFacts {
    pub(crate) created: Option<Timestamp>,
    /// What its annotation wishes it to be called in the mesh.
    pub(crate) wished: Option<String>,
    /// Empty for a headless one.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) headless: bool,
    /// Labels of its pods; empty if somebody else says what its endpoints are.
    pub(crate) selector: Tags,
    pub(crate) ports: Vec<PortFacts>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortFacts {
    /// Empty for an only one.
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) protocol: &'static str,
}

/// `None`: nothing that can be called by TCP.
pub(crate) fn service(service: &Service) -> Option<ServiceFacts> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let listed = spec.cluster_ips.iter().flatten();
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let ports = spec.ports.iter().flatten().filter(|port| is_tcp(port.protocol.as_deref()));
    let annotations = service.metadata.annotations.as_ref();
    Some(ServiceFacts {
        created: service.metadata.creation_timestamp.as_ref().map(|time| time.0),
        wished: annotations.and_then(|all| all.get(ursa_inject::SERVICE_ANNOTATION)).cloned(),
        addresses: listed.filter_map(|address| address.parse().ok()).collect(),
        headless,
        selector: spec.selector.clone().unwrap_or_default(),
        ports: ports
            .filter_map(|port| {
                Some(PortFacts {
                    name: port.name.clone().unwrap_or_default(),
                    port: u16::try_from(port.port).ok()?,
                    protocol: protocol(port.app_protocol.as_deref()),
                })
            })
            .collect(),
    })
}

fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}

/// What a Service's `appProtocol` means; what it does not say is never guessed.
/// Source: <https://kubernetes.io/docs/concepts/services-networking/service/#application-protocol>.
fn protocol(app_protocol: Option<&str>) -> &'static str {
    match app_protocol.map(str::to_lowercase).as_deref() {
        Some("http" | "kubernetes.io/ws") => "http",
        Some("http2" | "kubernetes.io/h2c") => "http2",
        Some("grpc") => "grpc",
        _ => "tcp",
    }
}

/// A part of a Service's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SliceFacts {
    pub(crate) service: Name,
    /// Name of the Service's port → the pods' port.
    pub(crate) ports: BTreeMap<String, u16>,
    pub(crate) endpoints: BTreeMap<Name, EndpointFacts>,
}

/// A pod as a Service's endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointFacts {
    pub(crate) addresses: BTreeSet<IpAddr>,
    pub(crate) ready: bool,
}

/// `None`: of no Service.
pub(crate) fn slice(slice: &EndpointSlice) -> Option<SliceFacts> {
    let meta = &slice.metadata;
    let service = meta.labels.as_ref()?.get("kubernetes.io/service-name")?;
    let namespace = meta.namespace.as_deref()?;
    let ports = slice.ports.iter().flatten().filter(|port| is_tcp(port.protocol.as_deref()));
    let ports = ports
        .filter_map(|port| Some((port.name.clone().unwrap_or_default(), u16::try_from(port.port?).ok()?)));
    let endpoints = slice.endpoints.iter().filter_map(|endpoint| {
        let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"))?;
        let facts = EndpointFacts {
            addresses: endpoint.addresses.iter().filter_map(|address| address.parse().ok()).collect(),
            // Unknown counts as ready.
            ready: endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true),
        };
        Some((Name::new(namespace, target.name.as_deref()?), facts))
    });
    Some(SliceFacts {
        service: Name::new(namespace, service),
        ports: ports.collect(),
        endpoints: endpoints.collect(),
    })
}
