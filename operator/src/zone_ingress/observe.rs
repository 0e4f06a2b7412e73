//! What is seen of a ZoneIngress on the API server: its control plane, its Service, its replicas, and nodes where they matter.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use ursa_crds::{ControlPlane, ControlPlaneMode, IngressServiceSpec, LocalRef, ServiceType, ZoneIngress};
use ursa_inject::Settings;

pub use super::nodes::{AllNodes, NodeFacts};

use super::nodes::Nodes;
use crate::control_plane::observe::Rollout;
use crate::control_plane::plan::settings;
use crate::names::{IngressNames, Names, ZONE_INGRESS};

/// What a plan is made from besides the ZoneIngress.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The ControlPlane that it names.
    pub control_plane: Plane,
    /// The Deployment.
    pub rollout: Option<Rollout>,
    /// The Service.
    pub service: Option<SeenService>,
    /// The cluster's nodes; `None`: they do not matter, or are not listed yet.
    pub nodes: Option<AllNodes>,
    /// Names of nodes on which a replica serves, where nodes matter.
    pub serving: BTreeSet<String>,
}

/// The ControlPlane that a ZoneIngress names.
#[derive(Clone, Debug, PartialEq)]
pub enum Plane {
    /// There is none of the name.
    NotFound,
    /// It is in no zone.
    Global,
    /// It has no certificates yet.
    Starting,
    /// It can be reached.
    Known(Box<Access>),
}

/// What agents of a control plane run with.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// As sidecars have them.
    pub settings: Settings,
    /// Credentials for the images' registry.
    pub pull_secrets: Vec<LocalRef>,
}

/// A Service, as far as it says where it is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenService {
    /// Its type.
    pub service_type: String,
    /// Its address in the cluster.
    pub cluster_ip: Option<IpAddr>,
    /// Its port of every node.
    pub node_port: Option<u16>,
    /// Addresses of its load balancer.
    pub balancer_ips: Vec<IpAddr>,
    /// Names of its load balancer.
    pub balancer_names: Vec<String>,
}

impl SeenService {
    fn of(service: &Service) -> Self {
        let spec = service.spec.clone().unwrap_or_default();
        let port = spec.ports.iter().flatten().next();
        let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let entries = balancer.and_then(|balancer| balancer.ingress.clone()).unwrap_or_default();
        Self {
            service_type: spec.type_.unwrap_or_default(),
            cluster_ip: spec.cluster_ip.as_deref().and_then(|ip| ip.parse().ok()),
            node_port: port.and_then(|port| port.node_port).and_then(|port| u16::try_from(port).ok()),
            balancer_ips: entries.iter().filter_map(|entry| entry.ip.as_deref()?.parse().ok()).collect(),
            balancer_names: entries.into_iter().filter_map(|entry| entry.hostname).collect(),
        }
    }
}

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The API server did not answer.
    #[error("cannot read {what}: {source}")]
    Read {
        /// What was asked for.
        what: String,
        /// Why.
        source: kube::Error,
    },
    /// The settings of sidecars are not what the operator writes.
    #[error("the ConfigMap {name} holds no settings: {message}; remove it, and it is made anew")]
    Settings {
        /// The ConfigMap.
        name: String,
        /// What is wrong.
        message: String,
    },
}

fn read(what: &str) -> impl FnOnce(kube::Error) -> ObserveError {
    let what = what.to_owned();
    move |source| ObserveError::Read { what, source }
}

/// Whether other zones reach it at a port of nodes.
fn is_at_nodes(ingress: &ZoneIngress) -> bool {
    let service = ingress.spec.service.as_ref();
    let service_type = service.map_or(IngressServiceSpec::default().service_type, |spec| spec.service_type);
    ingress.spec.advertised.is_none() && service_type == ServiceType::NodePort
}

/// Looks at everything.
pub(super) async fn observe(
    client: &Client,
    ingress: &ZoneIngress,
    names: &IngressNames,
    nodes: &Nodes,
) -> Result<Observed, ObserveError> {
    let name = names.object();
    let is_ours = |labels: &std::collections::BTreeMap<String, String>| {
        labels.get(ZONE_INGRESS) == Some(&names.label())
    };
    let deployments = Api::<Deployment>::namespaced(client.clone(), &names.namespace);
    let deployment = deployments.get_opt(&name).await.map_err(read(&name))?;
    let services = Api::<Service>::namespaced(client.clone(), &names.namespace);
    let service = services.get_opt(&name).await.map_err(read(&name))?;
    let at_nodes = is_at_nodes(ingress);
    nodes.want(&names.name, at_nodes);
    Ok(Observed {
        control_plane: plane(client, ingress, &names.namespace).await?,
        rollout: deployment.filter(|found| is_ours(found.labels())).as_ref().map(Rollout::of),
        service: service.filter(|found| is_ours(found.labels())).as_ref().map(SeenService::of),
        nodes: nodes.known().filter(|_| at_nodes),
        serving: if at_nodes { serving(client, names).await? } else { BTreeSet::new() },
    })
}

async fn plane(client: &Client, ingress: &ZoneIngress, namespace: &str) -> Result<Plane, ObserveError> {
    let Some(LocalRef { name }) = &ingress.spec.control_plane_ref else { return Ok(Plane::NotFound) };
    let planes = Api::<ControlPlane>::namespaced(client.clone(), namespace);
    let found = planes.get_opt(name).await.map_err(read(name))?;
    let Some(found) = found.filter(|found| found.metadata.deletion_timestamp.is_none()) else {
        return Ok(Plane::NotFound);
    };
    if found.spec.mode == ControlPlaneMode::Global {
        return Ok(Plane::Global);
    }
    let name = Names::new(namespace, name).settings();
    let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let map = maps.get_opt(&name).await.map_err(read(&name))?;
    let Some(text) = map.and_then(|map| map.data).and_then(|mut data| data.remove(settings::FILE)) else {
        return Ok(Plane::Starting);
    };
    let settings = serde_saphyr::from_str(&text)
        .map_err(|error| ObserveError::Settings { name, message: error.to_string() })?;
    Ok(Plane::Known(Box::new(Access { settings, pull_secrets: found.spec.image_pull_secrets })))
}

/// Names of nodes with a replica that serves.
async fn serving(client: &Client, names: &IngressNames) -> Result<BTreeSet<String>, ObserveError> {
    let selector: Vec<String> =
        names.selector().iter().map(|(key, value)| format!("{key}={value}")).collect();
    let params = ListParams::default().labels(&selector.join(","));
    let pods = Api::<Pod>::namespaced(client.clone(), &names.namespace).list(&params).await;
    let is_ready = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
    };
    let pods = pods.map_err(read("the pods of the ingress"))?.items;
    Ok(pods.into_iter().filter(is_ready).filter_map(|pod| pod.spec?.node_name).collect())
}
