//! Goldens: resources as a user writes them in; out comes what one proxy is to do, where its destinations are, and what
//! its zone offers and passes on; or what is wrong with the resources.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ursa-policy --test golden` rewrites the outputs.
//! Invariant: the order of the documents never matters; every case is read in several orders.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use ursa_crds::{DataplaneSpec, Kind, MeshSpec, Object, ObjectKey, Pod, Problem, Spec, WorkloadIdentity};
use ursa_model::{EndpointSet, EndpointState, IngressRoute, ProxyModel, TrustBundle, TrustDomain};
use ursa_policy::{
    Instance, MeshInput, MeshView, OutboundPolicies, RemoteService, RemoteZone, ServiceAddress,
};

type Error = Box<dyn std::error::Error>;

datatest_stable::harness! {
    { test = golden, root = "testdata", pattern = r"\.in\.yaml$" },
    { test = every_output_has_an_input, root = "testdata", pattern = r"\.out\.yaml$" },
}

/// The first document: what is looked at, and what is known besides resources.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    kind: CaseKind,
    /// One sentence: why the case exists.
    why: String,
    /// The zone that looks.
    zone: String,
    /// The dataplane whose proxy is looked at.
    proxy: Option<String>,
    /// Zones whose roots are known once mutual TLS is on; all that are named here, if left out.
    trust: Option<BTreeSet<String>>,
    #[serde(default)]
    remotes: Vec<Remote>,
    /// Where captured workloads call services.
    #[serde(default)]
    addresses: Vec<ServiceAddress>,
    /// Dataplane → inbound ports that the application does not serve.
    #[serde(default)]
    unready: BTreeMap<String, BTreeSet<u16>>,
    /// Dataplanes whose agents are not heard of.
    #[serde(default)]
    degraded: BTreeSet<String>,
    /// Dataplanes that are about to stop.
    #[serde(default)]
    draining: BTreeSet<String>,
    /// Pods behind dataplanes, by the dataplanes' names: what discovery says of them.
    #[serde(default)]
    pods: BTreeMap<String, Pod>,
    /// The resources are as a store holds them: others may have changed since they were judged.
    #[serde(default)]
    stored: bool,
    /// Why the proxy has its outbounds is told as well.
    #[serde(default)]
    explained: bool,
}

#[derive(Clone, Copy, Deserialize)]
enum CaseKind {
    Case,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Remote {
    zone: String,
    #[serde(default)]
    ingresses: Vec<SocketAddr>,
    #[serde(default)]
    services: Vec<RemoteService>,
    identities: Option<Vec<WorkloadIdentity>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase", untagged)]
enum Output {
    Refused {
        problems: Vec<Refusal>,
    },
    #[serde(rename_all = "camelCase")]
    Accepted {
        #[serde(skip_serializing_if = "Option::is_none")]
        proxy: Option<Box<ProxyModel>>,
        endpoints: Vec<EndpointSet>,
        available_services: Vec<RemoteService>,
        /// Shown where a case is about them.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        identities: Vec<WorkloadIdentity>,
        #[serde(skip_serializing_if = "Option::is_none")]
        identity: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        notes: Vec<String>,
        /// Where a case asks for them.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        outbounds: Vec<OutboundPolicies>,
        ingress_routes: Vec<IngressRoute>,
    },
}

#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Refusal {
    resource: String,
    /// Its place among the problems of the resource, which come in the order of the fields.
    #[serde(skip)]
    position: usize,
    field: String,
    message: String,
}

fn golden(path: &Path) -> Result<(), Error> {
    let mut documents = ursa_crds::parse_documents(&std::fs::read(path)?)?;
    if documents.len() < 2 {
        return Err("a Case and at least one resource are needed".into());
    }
    let mut case: Case = serde_json::from_value(documents.remove(0))?;
    let CaseKind::Case = case.kind;
    if case.why.is_empty() {
        return Err("the first document says why the case exists".into());
    }
    let expected = serde_saphyr::to_string(&output(&case, &documents)?)?;
    for turn in 1..documents.len() {
        documents.rotate_left(1);
        same(
            &expected,
            &serde_saphyr::to_string(&output(&case, &documents)?)?,
            &format!("turned by {turn}"),
        )?;
    }
    documents.reverse();
    case.remotes.reverse();
    case.remotes.iter_mut().for_each(|remote| {
        remote.ingresses.reverse();
        remote.services.reverse();
        remote.identities.iter_mut().for_each(|identities| identities.reverse());
    });
    same(&expected, &serde_saphyr::to_string(&output(&case, &documents)?)?, "reversed")?;
    compare(&output_of(path), &expected)
}

fn every_output_has_an_input(path: &Path) -> Result<(), Error> {
    let input = path.to_string_lossy().replace(".out.yaml", ".in.yaml");
    Path::new(&input).exists().then_some(()).ok_or_else(|| format!("{input} is missing").into())
}

fn output(case: &Case, documents: &[Value]) -> Result<Output, Error> {
    let decoded: Vec<Result<Arc<Object>, Problem>> = documents.iter().map(|it| decode(case, it)).collect();
    let objects: Vec<Arc<Object>> = decoded.iter().flatten().cloned().collect();
    let lookup = |key: &ObjectKey| objects.iter().find(|object| object.key() == *key).cloned();
    let mut problems = Vec::new();
    for (document, decoded) in documents.iter().zip(decoded) {
        let found = match decoded {
            // No user writes what discovery says.
            Ok(object) if is_pod(&object) => Vec::new(),
            Ok(object) if case.stored => ursa_policy::validate(&object),
            Ok(object) => ursa_policy::validate_among(&object, lookup),
            Err(problem) => vec![problem],
        };
        let text = |pointer| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let resource = format!("{} {}", text("/kind"), text("/metadata/name"));
        problems.extend(found.into_iter().enumerate().map(|(position, problem)| Refusal {
            resource: resource.clone(),
            position,
            field: problem.field,
            message: problem.message,
        }));
    }
    if !problems.is_empty() {
        problems.sort();
        return Ok(Output::Refused { problems });
    }
    let input = input(case, objects)?;
    let zone = input.zone.clone();
    // Else it says what the dataplanes say.
    let identity_matters = !case.pods.is_empty() || !input.spec.identity_tags.is_empty();
    let view = MeshView::new(input);
    let explained = case
        .proxy
        .as_ref()
        .map(|name| view.policies(name).ok_or_else(|| format!("there is no dataplane {name}")))
        .transpose()?;
    let proxy = case.proxy.as_ref().and_then(|name| view.proxy(name));
    let destinations = proxy.iter().flat_map(|proxy| &proxy.destinations);
    Ok(Output::Accepted {
        endpoints: destinations.map(|destination| view.endpoints(&destination.id)).collect(),
        available_services: view.available_services(),
        identities: if identity_matters { view.identities() } else { Vec::new() },
        identity: explained.as_ref().and_then(|it| it.identity.clone()).filter(|_| identity_matters),
        outbounds: explained.iter().filter(|_| case.explained).flat_map(|it| it.outbounds.clone()).collect(),
        notes: explained.map(|it| it.notes).unwrap_or_default(),
        ingress_routes: view.ingress_routes(view.named_subsets(&zone)),
        proxy: proxy.map(Box::new),
    })
}

fn decode(case: &Case, document: &Value) -> Result<Arc<Object>, Problem> {
    let mut object = ursa_crds::decode_value(document)?;
    // As stores do.
    if object.meta.namespace == "ursa-system" {
        object.meta.namespace.clear();
    }
    if let Spec::Dataplane(spec) = &mut object.spec {
        spec.pod = case.pods.get(&object.meta.name).cloned();
    }
    Ok(Arc::new(object))
}

fn is_pod(object: &Object) -> bool {
    matches!(&object.spec, Spec::Dataplane(DataplaneSpec { pod: Some(_), .. }))
}

fn input(case: &Case, objects: Vec<Arc<Object>>) -> Result<MeshInput, Error> {
    let mut keys: BTreeSet<ObjectKey> = BTreeSet::new();
    if let Some(double) = objects.iter().map(|object| object.key()).find(|key| !keys.insert(key.clone())) {
        return Err(format!("{double} is there twice").into());
    }
    let mut meshes = objects.iter().filter_map(|object| match &object.spec {
        Spec::Mesh(spec) => Some((object.meta.name.clone(), spec.clone())),
        _ => None,
    });
    let (Some((name, spec)), None) = (meshes.next(), meshes.next()) else {
        return Err("exactly one Mesh is needed".into());
    };
    let stray = |object: &&Arc<Object>| object.spec.mesh().is_some_and(|mesh| mesh != name);
    if let Some(stray) = objects.iter().find(stray) {
        return Err(format!("{} is not in mesh {name}", stray.key()).into());
    }
    let of = |kind| objects.iter().filter(move |object| object.kind() == kind).cloned();
    let instances: Vec<Instance> = of(Kind::Dataplane).map(|dataplane| instance(case, dataplane)).collect();
    known_dataplanes(case, &instances)?;
    Ok(MeshInput {
        trust: trust(case, &name, &spec),
        addresses: case.addresses.clone().into(),
        zone: case.zone.clone(),
        remotes: case.remotes.iter().cloned().map(remote_zone).collect(),
        permissions: of(Kind::TrafficPermission).collect(),
        routes: of(Kind::TrafficRoute).collect(),
        name,
        spec,
        instances,
    })
}

fn instance(case: &Case, dataplane: Arc<Object>) -> Instance {
    let name = &dataplane.meta.name;
    Instance {
        unready_ports: case.unready.get(name).cloned().unwrap_or_default(),
        state: if case.degraded.contains(name) { EndpointState::Degraded } else { EndpointState::Healthy },
        out_of_service: case.draining.contains(name),
        dataplane,
    }
}

/// What is said of dataplanes must be said of some that are there.
fn known_dataplanes(case: &Case, instances: &[Instance]) -> Result<(), String> {
    let ports_of = |name: &String| {
        let instance = instances.iter().find(|instance| instance.dataplane.meta.name == *name);
        match instance.map(|instance| &instance.dataplane.spec) {
            Some(Spec::Dataplane(spec)) => Ok(spec.networking.inbound.iter().map(|inbound| inbound.port)),
            _ => Err(format!("there is no dataplane {name}")),
        }
    };
    let none = BTreeSet::new();
    let states = case.degraded.iter().chain(&case.draining).map(|name| (name, &none));
    for (name, ports) in states.chain(&case.unready) {
        let known: BTreeSet<u16> = ports_of(name)?.collect();
        if !ports.is_subset(&known) {
            return Err(format!("dataplane {name} has no inbound at one of {ports:?}"));
        }
    }
    Ok(())
}

/// Roots are opaque here: what stands for them only says whose they are.
fn trust(case: &Case, mesh: &str, spec: &MeshSpec) -> TrustBundle {
    if spec.enabled_backend().is_none() {
        return TrustBundle::new();
    }
    let all = || case.remotes.iter().map(|remote| &remote.zone).chain([&case.zone]).cloned().collect();
    let zones = case.trust.clone().unwrap_or_else(all);
    let roots = |zone: &String| (TrustDomain::new(zone, mesh).to_string(), format!("roots of {zone}"));
    zones.iter().map(roots).collect()
}

fn remote_zone(remote: Remote) -> RemoteZone {
    let ingresses = remote.ingresses.iter().map(|address| (address.ip(), address.port())).collect();
    RemoteZone { zone: remote.zone, ingresses, services: remote.services, identities: remote.identities }
}

fn output_of(input: &Path) -> PathBuf {
    input.to_string_lossy().replace(".in.yaml", ".out.yaml").into()
}

fn same(expected: &str, actual: &str, what: &str) -> Result<(), Error> {
    if expected == actual {
        return Ok(());
    }
    let diff = similar::TextDiff::from_lines(expected, actual);
    Err(format!("the documents {what} give another output:\n{}", diff.unified_diff()).into())
}

fn compare(path: &Path, actual: &str) -> Result<(), Error> {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return Ok(std::fs::write(path, actual)?);
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    if expected == actual {
        return Ok(());
    }
    let diff = similar::TextDiff::from_lines(&expected, actual);
    Err(format!("{} differs (UPDATE_GOLDEN=1 rewrites it):\n{}", path.display(), diff.unified_diff()).into())
}
