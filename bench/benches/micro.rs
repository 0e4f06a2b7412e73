//! The steps of a change in the control plane, each for itself, in a mesh of 10 000 services with ten policies of each kind.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::sync::{Arc, LazyLock};

use divan::Bencher;
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use ursa_bench::objects;
use ursa_bench::plan::{MESH, Plan, Topology};
use ursa_crds::{Kind, MeshSpec, Object, Spec};
use ursa_envoy::wire::DeltaDiscoveryRequest;
use ursa_envoy::{Interner, ResourceSet, ResourceType, endpoint_resource, translate};
use ursa_index::{Authority, Connection, Index, SnapshotReceiver};
use ursa_model::{EndpointState, ProxyId, ProxyModel, TrustDomain};
use ursa_policy::{Instance, MeshInput, MeshView};
use ursa_store::Store;
use ursa_xds::DeltaStream;

const SERVICES: usize = 10_000;
const POLICIES: usize = 10;
const ZONE: &str = "near";
/// A dataplane that calls five services, and one that calls as many as a dataplane may.
const FEW: &str = "near-7";
const MANY: &str = "many";
const MANY_CALLS: usize = 1_000;

fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    divan::main();
}

static OBJECTS: LazyLock<Vec<Arc<Object>>> = LazyLock::new(|| {
    let service = |number: usize| format!("service-{number}");
    let dataplanes = Plan::all((ZONE, 1), &[MESH], Topology::Sparse, SERVICES);
    let mut all: Vec<Value> = dataplanes.iter().map(Plan::resource).collect();
    let outbound =
        |number: usize| json!({"port": 10_000 + number, "tags": {"ursamesh.io/service": service(number)}});
    let mut many = Plan::idle(MANY, 1).resource();
    many["spec"]["networking"]["outbound"] = (0..MANY_CALLS).map(outbound).collect();
    all.push(many);
    all.push(named(objects::mesh(), MESH));
    all.push(named(objects::permission("*"), "everybody"));
    for number in 1..POLICIES {
        let (from, to) = (service(number), service(number + 1));
        all.push(named(objects::permission_between(&from, &to), &format!("permission-{number}")));
    }
    for number in 0..POLICIES {
        let from = if number == 0 { "*".to_owned() } else { service(number) };
        all.push(named(objects::route_between(&from, &service(number + 1)), &format!("route-{number}")));
    }
    all.iter().map(|value| Arc::new(ursa_crds::decode_value(value).unwrap())).collect()
});

static VIEW: LazyLock<MeshView> = LazyLock::new(|| MeshView::new(input()));

fn named(mut object: Value, name: &str) -> Value {
    object["metadata"] = json!({"name": name});
    object
}

fn input() -> MeshInput {
    let of = |kind| OBJECTS.iter().filter(move |object| object.kind() == kind).cloned();
    let instance = |dataplane| Instance {
        dataplane,
        unready_ports: BTreeSet::new(),
        state: EndpointState::Healthy,
        out_of_service: false,
    };
    MeshInput {
        name: MESH.into(),
        zone: ZONE.into(),
        spec: mesh(),
        trust: BTreeMap::from([(TrustDomain::new(ZONE, MESH).to_string(), "roots".to_owned())]),
        instances: of(Kind::Dataplane).map(instance).collect(),
        addresses: Arc::default(),
        remotes: Vec::new(),
        permissions: of(Kind::TrafficPermission).collect(),
        routes: of(Kind::TrafficRoute).collect(),
    }
}

fn mesh() -> MeshSpec {
    let spec = OBJECTS.iter().find_map(|object| match &object.spec {
        Spec::Mesh(spec) => Some(spec.clone()),
        _ => None,
    });
    spec.unwrap()
}

fn model(name: &str) -> ProxyModel {
    VIEW.proxy(name).unwrap()
}

/// Everything that a proxy gets, endpoints included.
fn resources(model: &ProxyModel, interner: &mut Interner) -> ResourceSet {
    let mut all = translate(model, interner);
    for destination in &model.destinations {
        let endpoints = VIEW.endpoints(&destination.id);
        let resource = endpoint_resource(&destination.id.name(), &endpoints, interner);
        all.insert(resource);
    }
    all
}

/// Which policies reach a proxy, and which route wins for each call.
#[divan::bench(args = [FEW, MANY], sample_count = 20)]
fn matching(bencher: Bencher, name: &str) {
    LazyLock::force(&VIEW);
    bencher.bench(|| VIEW.policies(black_box(name)).unwrap());
}

/// What a zone knows of the mesh, prepared for looking things up.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn view_building(bencher: Bencher) {
    bencher.with_inputs(input).bench_values(MeshView::new);
}

/// What one proxy is to do.
#[divan::bench(args = [FEW, MANY], sample_count = 20)]
fn model_building(bencher: Bencher, name: &str) {
    LazyLock::force(&VIEW);
    bencher.bench(|| VIEW.proxy(black_box(name)).unwrap());
}

/// The endpoints of one destination.
#[divan::bench(sample_count = 20)]
fn endpoints(bencher: Bencher) {
    let model = model(FEW);
    bencher.bench(|| VIEW.endpoints(black_box(&model.destinations[0].id)));
}

/// A model as Envoy resources that nobody has yet.
#[divan::bench(args = [FEW, MANY], sample_count = 20)]
fn translation(bencher: Bencher, name: &str) {
    let model = model(name);
    bencher.with_inputs(Interner::default).bench_values(|mut interner| translate(&model, &mut interner));
}

/// A model as Envoy resources that other proxies have too.
#[divan::bench(args = [FEW, MANY], sample_count = 20)]
fn translation_shared(bencher: Bencher, name: &str) {
    let model = model(name);
    let mut interner = Interner::default();
    let _others = translate(&model, &mut interner);
    bencher.bench_local(|| translate(&model, &mut interner));
}

/// What a client lacks whose endpoints of one cluster have changed, and its acknowledgement.
#[divan::bench(args = [FEW, MANY], sample_count = 20)]
fn delta_diff(bencher: Bencher, name: &str) {
    let model = model(name);
    let mut interner = Interner::default();
    let before = resources(&model, &mut interner);
    let mut after = before.clone();
    let id = &model.destinations[0].id;
    let mut endpoints = VIEW.endpoints(id);
    endpoints.endpoints.clear();
    let changed = endpoint_resource(&id.name(), &endpoints, &mut interner);
    after.insert(changed);
    let targets = [Arc::new(after), Arc::new(before)];
    let mut stream = DeltaStream::default();
    for resource_type in ResourceType::ALL {
        let type_url = resource_type.type_url().to_owned();
        stream.request(&DeltaDiscoveryRequest { type_url, ..Default::default() });
    }
    let mut turn = 1;
    take(&mut stream, &targets[turn]);
    bencher.bench_local(|| {
        turn = 1 - turn;
        assert_eq!(take(&mut stream, &targets[turn]), 1);
    });
}

/// Aims at this, and acknowledges what comes; how many resources that was.
fn take(stream: &mut DeltaStream, target: &Arc<ResourceSet>) -> usize {
    stream.aim(target.clone());
    let mut resources = 0;
    for response in stream.responses() {
        resources += response.resources.len();
        let (type_url, response_nonce) = (response.type_url, response.nonce);
        stream.request(&DeltaDiscoveryRequest { type_url, response_nonce, ..Default::default() });
    }
    assert!(stream.is_settled());
    resources
}

/// From an agent's word that its instance is ready or not, to the new snapshot of one that calls it, while so many
/// proxies are connected.
#[divan::bench(args = [10, 1_000, 10_000], sample_count = 10, sample_size = 1)]
fn snapshot_update(bencher: Bencher, proxies: usize) {
    let runtime = Runtime::new().unwrap();
    let mut world = runtime.block_on(World::start(proxies));
    bencher.bench_local(|| runtime.block_on(world.change()));
}

/// An index with connected proxies.
struct World {
    instance: Connection,
    is_ready: bool,
    caller: usize,
    snapshots: Vec<SnapshotReceiver>,
}

impl World {
    async fn start(proxies: usize) -> Self {
        let store = Store::memory();
        for written in join_all(OBJECTS.iter().map(|object| store.put(Object::clone(object), None))).await {
            written.unwrap();
        }
        let authority = Arc::new(Authority::standalone(store.clone(), ZONE));
        let index = Index::start(store, authority);
        let plans = Plan::all((ZONE, 1), &[MESH], Topology::Sparse, SERVICES);
        // Together: the index works out once what comes together.
        let ids: Vec<ProxyId> = plans[..proxies].iter().map(|plan| ProxyId::new(MESH, &plan.name)).collect();
        let snapshots = join_all(ids.iter().map(|id| index.subscribe(id))).await;
        let mut snapshots: Vec<SnapshotReceiver> = snapshots.into_iter().map(Option::unwrap).collect();
        for receiver in &mut snapshots {
            receiver.wait_for(Option::is_some).await.unwrap();
        }
        let (caller, called) = (0..proxies)
            .find_map(|caller| Some((caller, plans.iter().find(|plan| plans[caller].calls(&plan.serves))?)))
            .unwrap();
        let instance = index.connect(&ProxyId::new(MESH, &called.name));
        Self { instance, is_ready: true, caller, snapshots }
    }

    async fn change(&mut self) {
        self.is_ready = !self.is_ready;
        let receiver = &mut self.snapshots[self.caller];
        receiver.mark_unchanged();
        let unready = if self.is_ready { BTreeSet::new() } else { BTreeSet::from([ursa_bench::plan::PORT]) };
        self.instance.unready(unready);
        receiver.changed().await.unwrap();
    }
}
