//! A ZoneIngress as a user writes it and what is seen of it; out come all objects and the status.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use serde::Deserialize;
use serde_json::json;
use ursa_crds::{LocalRef, ZoneIngress};
use ursa_inject::{ControlPlaneAccess, Settings, SidecarMode};
use ursa_operator::zone_ingress::observe::{Access, NodeFacts, Observed, Plane, SeenService};
use ursa_operator::zone_ingress::plan::plan;

use crate::common::{Error, Seen, compare, conditions, text_of};

/// The first document: what is seen.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    kind: CaseKind,
    /// One sentence: why the case exists.
    why: String,
    control_plane: CasePlane,
    rollout: Option<Seen>,
    service: Option<CaseService>,
    nodes: Option<BTreeMap<String, CaseNode>>,
}

#[derive(Deserialize)]
enum CaseKind {
    Case,
}

#[derive(Clone, Copy, Deserialize)]
enum CasePlane {
    NotFound,
    Global,
    Starting,
    Known,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CaseService {
    #[serde(rename = "type")]
    service_type: String,
    cluster_ip: Option<IpAddr>,
    node_port: Option<u16>,
    #[serde(default)]
    balancer_ips: Vec<IpAddr>,
    #[serde(default)]
    balancer_names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CaseNode {
    #[serde(default)]
    external: Vec<IpAddr>,
    #[serde(default)]
    internal: Vec<IpAddr>,
    /// Whether it is ready.
    ready: bool,
    /// Whether a replica serves on it.
    #[serde(default)]
    serves: bool,
}

pub(crate) fn golden(path: &Path) -> Result<(), Error> {
    let documents = ursa_crds::parse_documents(&std::fs::read(path)?)?;
    let [case, ingress] = documents.try_into().map_err(|_| "a Case and a ZoneIngress are needed")?;
    let case: Case = serde_json::from_value(case)?;
    let CaseKind::Case = case.kind;
    if case.why.is_empty() {
        return Err("the first document says why the case exists".into());
    }
    let ingress: ZoneIngress = serde_json::from_value(ingress)?;
    let observed = observed(&case);
    let found = plan(&ingress, &observed);
    if plan(&ingress, &observed) != found {
        return Err("equal inputs give different plans".into());
    }
    let status = &found.status;
    let mut shown = json!({"status": {
        "conditions": conditions(&status.conditions), "generation": status.generation,
        "readyReplicas": status.ready_replicas,
    }});
    if let Some(at) = status.address {
        (shown["status"]["address"], shown["status"]["port"]) = (json!(at.address), json!(at.port));
    }
    compare(path, &text_of(&found.objects, &shown)?)
}

fn observed(case: &Case) -> Observed {
    let settings = Settings {
        image: "ursa-dp:1.2.3".into(),
        image_pull_policy: None,
        control_plane: ControlPlaneAccess {
            address: "https://ursa.ursa-system.svc:5678".into(),
            ca_pem: "bundle\n".into(),
        },
        mode: SidecarMode::Native,
        resources: None,
        log_level: "info".into(),
    };
    let control_plane = match case.control_plane {
        CasePlane::NotFound => Plane::NotFound,
        CasePlane::Global => Plane::Global,
        CasePlane::Starting => Plane::Starting,
        CasePlane::Known => {
            let pull_secrets = vec![LocalRef { name: "registry".into() }];
            Plane::Known(Box::new(Access { settings, pull_secrets }))
        }
    };
    let service = case.service.as_ref().map(|seen| SeenService {
        service_type: seen.service_type.clone(),
        cluster_ip: seen.cluster_ip,
        node_port: seen.node_port,
        balancer_ips: seen.balancer_ips.clone(),
        balancer_names: seen.balancer_names.clone(),
    });
    let facts = |node: &CaseNode| NodeFacts {
        ready: node.ready,
        external: node.external.clone(),
        internal: node.internal.clone(),
    };
    let nodes = case.nodes.as_ref();
    let serving = nodes.into_iter().flatten().filter(|(_, node)| node.serves);
    Observed {
        control_plane,
        rollout: Seen::rollout(case.rollout.as_ref()),
        service,
        nodes: nodes.map(|nodes| nodes.iter().map(|(name, node)| (name.clone(), facts(node))).collect()),
        serving: serving.map(|(name, _)| name.clone()).collect::<BTreeSet<_>>(),
    }
}
