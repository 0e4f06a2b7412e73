//! A view that follows changes says what a new one says, and of whom it does not say that a change touches them, nothing
//! has changed.

#![allow(clippy::unwrap_used, reason = "what cannot be read fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use ursa_crds::{MeshSpec, Object, ObjectKey, Spec, tag};
use ursa_model::{DestinationId, EndpointSet, EndpointState, Inbound, ProxyModel, TrustBundle};
use ursa_policy::{Instance, MeshInput, MeshView, RemoteService, RemoteZone, ServiceAddress, Touched};

const NAMES: [&str; 4] = ["w1", "w2", "w3", "w4"];
const SERVICES: [&str; 3] = ["a", "b", "c"];

fn object(yaml: &str) -> Arc<Object> {
    Arc::new(ursa_crds::decode(yaml.as_bytes()).unwrap_or_else(|error| unreachable!("{error}: {yaml}")))
}

fn mesh() -> MeshSpec {
    let mesh = object(
        "apiVersion: ursamesh.io/v1alpha1\nkind: Mesh\nmetadata: {name: default}\nspec:\n  mtls: {enabledBackend: ca, backends: \
         [{name: ca, type: Builtin}]}\n  identityTags: [{key: team}]\n  services: [{name: c, zones: [east, west]}]\n",
    );
    match &mesh.spec {
        Spec::Mesh(spec) => spec.clone(),
        other => unreachable!("{other:?}"),
    }
}

/// What is known, in the form from which a view is made anew.
#[derive(Clone, Debug, Default)]
struct World {
    instances: BTreeMap<String, Instance>,
    permissions: BTreeMap<ObjectKey, Arc<Object>>,
    routes: BTreeMap<ObjectKey, Arc<Object>>,
}

impl World {
    fn input(&self) -> MeshInput {
        let roots = |zone: &str| (format!("{zone}.default.ursa"), format!("roots of {zone}"));
        let service = |tags: &[(&str, &str)]| RemoteService {
            tags: tags.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            instances: 2,
            protocol: ursa_model::Protocol::Http,
            identity_services: ["a".to_owned()].into(),
        };
        let address = |service: &str, port| ServiceAddress {
            address: "10.1.0.1".parse().unwrap(),
            port,
            service: service.into(),
            wished: None,
            service_port: port,
            meshed: port == 80,
            instance: None,
        };
        MeshInput {
            name: "default".into(),
            zone: "east".into(),
            spec: mesh(),
            trust: TrustBundle::from([roots("east"), roots("west")]),
            instances: self.instances.values().cloned().collect(),
            addresses: [address("a", 80), address("b", 81)].into(),
            remotes: vec![RemoteZone {
                zone: "west".into(),
                ingresses: vec![("10.9.0.1".parse().unwrap(), 10_001)],
                services: vec![service(&[(tag::SERVICE, "a"), (tag::PORT, "80"), ("version", "v2")])],
                identities: None,
            }],
            permissions: self.permissions.values().cloned().collect(),
            routes: self.routes.values().cloned().collect(),
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    Instance(&'static str, Option<Box<Instance>>),
    Permission(usize, Option<Arc<Object>>),
    Route(usize, Option<Arc<Object>>),
}

fn instance(name: &'static str) -> impl Strategy<Value = Change> {
    let service = || prop::sample::select(SERVICES.to_vec());
    let inbound = (
        service(),
        prop::sample::select(vec![80, 81]),
        prop::sample::select(vec!["tcp", "http"]),
        prop::sample::select(vec!["v1", "v2"]),
    );
    let inbounds = prop::collection::vec(inbound, 0..3);
    let calls = prop::collection::vec(service(), 0..3);
    let team = prop::sample::select(vec!["", "red", "blue"]);
    let state = (any::<bool>(), any::<bool>(), any::<bool>());
    let said = (inbounds, calls, team, any::<bool>(), state);
    prop::option::weighted(0.8, said).prop_map(move |said| {
        let said = said.map(|(inbounds, calls, team, captured, (unready, degraded, out))| {
            let mut ports = BTreeSet::new();
            let inbounds: Vec<String> = inbounds
                .iter()
                .filter(|(_, port, ..)| ports.insert(*port))
                .map(|(service, port, protocol, version)| {
                    format!(
                        "{{port: {port}, tags: {{ursamesh.io/service: {service}, ursamesh.io/protocol: {protocol}, version: {version}}}}}"
                    )
                })
                .collect();
            let outbounds: Vec<String> = (calls.iter().zip(20_000..))
                .map(|(service, port)| format!("{{port: {port}, tags: {{ursamesh.io/service: {service}}}}}"))
                .collect();
            let capture = if captured { "\n    capture: {}" } else { "" };
            let tokens = if team.is_empty() { String::new() } else { format!("\n  tokenTags: {{team: {team}}}") };
            let yaml = format!(
                "apiVersion: ursamesh.io/v1alpha1\nkind: Dataplane\nmetadata: {{name: {name}}}\nspec:\n  mesh: default{tokens}\n  \
                 networking:\n    address: 10.0.0.{}{capture}\n    inbound: [{}]\n    outbound: [{}]\n",
                &name[1..],
                inbounds.join(", "),
                outbounds.join(", ")
            );
            Box::new(Instance {
                dataplane: object(&yaml),
                unready_ports: if unready { [80].into() } else { BTreeSet::new() },
                state: if degraded { EndpointState::Degraded } else { EndpointState::Healthy },
                out_of_service: out,
            })
        });
        Change::Instance(name, said)
    })
}

fn selector() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "{match: {ursamesh.io/service: '*'}}",
        "{match: {ursamesh.io/service: a}}",
        "{match: {ursamesh.io/service: b}}, {match: {ursamesh.io/service: c}}",
        "{match: {version: v1}}",
        "{match: {ursamesh.io/service: a, version: v2}}",
    ])
}

fn permission() -> impl Strategy<Value = Change> {
    let source = prop_oneof![selector(), Just("{match: {team: red}}")];
    let action = prop::sample::select(vec!["Allow", "Allow", "Deny"]);
    (0..3_usize, prop::option::weighted(0.8, (action, source, selector()))).prop_map(|(at, said)| {
        let said = said.map(|(action, source, destination)| {
            object(&format!(
                "apiVersion: ursamesh.io/v1alpha1\nkind: TrafficPermission\nmetadata: {{name: p{at}}}\nspec:\n  mesh: default\n  action: \
                 {action}\n  sources: [{source}]\n  destinations: [{destination}]\n"
            ))
        });
        Change::Permission(at, said)
    })
}

fn route() -> impl Strategy<Value = Change> {
    let target = prop::sample::select(vec![
        "{ursamesh.io/service: a, version: v1}",
        "{ursamesh.io/service: a, version: v2}",
        "{ursamesh.io/service: b}",
        "{ursamesh.io/service: c, ursamesh.io/zone: west}",
    ]);
    (0..3_usize, prop::option::weighted(0.8, (selector(), selector(), target))).prop_map(|(at, said)| {
        let said = said.map(|(source, destination, target)| {
            object(&format!(
                "apiVersion: ursamesh.io/v1alpha1\nkind: TrafficRoute\nmetadata: {{name: r{at}}}\nspec:\n  mesh: default\n  sources: \
                 [{source}]\n  destinations: [{destination}]\n  conf: {{split: [{{weight: 1, destination: {target}}}, {{weight: 1, \
                 destination: {{ursamesh.io/service: b}}}}], loadBalancer: {{type: {}}}}}\n",
                ["RoundRobin", "LeastRequest", "Random"][at]
            ))
        });
        Change::Route(at, said)
    })
}

fn change() -> impl Strategy<Value = Change> {
    let instance = prop::sample::select(NAMES.to_vec()).prop_flat_map(instance);
    prop_oneof![4 => instance, 1 => permission(), 1 => route()]
}

fn set<T>(all: &mut BTreeMap<ObjectKey, T>, key: &ObjectKey, value: Option<T>) {
    match value {
        Some(value) => all.insert(key.clone(), value),
        None => all.remove(key),
    };
}

/// Makes it in both.
fn make(change: Change, world: &mut World, view: &mut MeshView) -> Touched {
    let mut touched = Touched::default();
    match change {
        Change::Instance(name, instance) => {
            let instance = instance.map(|instance| *instance);
            match instance.clone() {
                Some(instance) => world.instances.insert(name.to_owned(), instance),
                None => world.instances.remove(name),
            };
            view.set_instance(name, instance, &mut touched);
        }
        Change::Permission(at, object) => {
            let key = ObjectKey::in_mesh(ursa_crds::Kind::TrafficPermission, "default", &format!("p{at}"));
            set(&mut world.permissions, &key, object.clone());
            view.set_permission(&key, object, &mut touched);
        }
        Change::Route(at, object) => {
            let key = ObjectKey::in_mesh(ursa_crds::Kind::TrafficRoute, "default", &format!("r{at}"));
            set(&mut world.routes, &key, object.clone());
            view.set_route(&key, object, &mut touched);
        }
    }
    touched
}

/// What proxies are told.
type Told = BTreeMap<&'static str, (ProxyModel, BTreeMap<String, std::net::IpAddr>)>;

fn told(view: &MeshView) -> Told {
    let own = "10.0.0.1".parse().unwrap();
    let named = |name| if view.captured(name).is_some() { view.names(own) } else { BTreeMap::new() };
    NAMES.iter().filter_map(|name| Some((*name, (view.proxy(name)?, named(name))))).collect()
}

fn endpoints(view: &MeshView, told: &Told) -> BTreeMap<DestinationId, EndpointSet> {
    let ids = told.values().flat_map(|(model, _)| &model.destinations).map(|destination| &destination.id);
    ids.map(|id| (id.clone(), view.endpoints(id))).collect()
}

fn calls_one_of(model: &ProxyModel, destinations: &BTreeSet<DestinationId>) -> bool {
    model.destinations.iter().any(|destination| destinations.contains(&destination.id))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn following_changes_comes_to_the_same_as_a_new_start(changes in prop::collection::vec(change(), 1..25)) {
        let mut world = World::default();
        let mut view = MeshView::new(world.input());
        for change in changes {
            let said = format!("{change:?}");
            let before = told(&view);
            let endpoints_before = endpoints(&view, &before);
            let passed_on = |view: &MeshView| view.ingress_routes(view.named_subsets("east"));
            let passed_on_before = passed_on(&view);
            let offered = |view: &MeshView| (view.available_services(), view.identities());
            let offered_before = offered(&view);
            let touched = make(change, &mut world, &mut view);

            let new = MeshView::new(world.input());
            let now = told(&new);
            prop_assert_eq!(&told(&view), &now, "{}", said);
            let endpoints_now = endpoints(&new, &now);
            prop_assert_eq!(&endpoints(&view, &now), &endpoints_now);
            prop_assert_eq!(passed_on(&view), passed_on(&new));
            prop_assert_eq!(offered(&view), offered(&new));
            let objects = || world.permissions.values().chain(world.routes.values());
            for object in objects() {
                prop_assert_eq!(view.reached(object), new.reached(object));
            }
            for name in NAMES {
                prop_assert_eq!(view.identity(name), new.identity(name));
                prop_assert_eq!(view.policies(name), new.policies(name));
            }

            // What is not said to be touched is as it was.
            for (name, (model, names)) in &now {
                let (same_model, same_names) = before.get(name).map_or((false, false), |b| (b.0 == *model, b.1 == *names));
                let captured = view.captured(name).is_some();
                let anew = touched.workloads.contains(*name) || touched.callers.contains(*name)
                    || (captured && touched.names);
                prop_assert!(same_names || anew, "{} is called otherwise by {}", said, name);
                if anew {
                    continue;
                }
                let calls_otherwise = touched.callers_of_rerouted.contains(*name)
                    || before.get(name).is_some_and(|(model, _)| calls_one_of(model, &touched.destinations));
                if calls_otherwise {
                    let after = view.proxy_after(&before[name].0, &touched.rerouted, &touched.destinations);
                    let inbounds = view.proxy_inbounds(name).unwrap_or_default();
                    let after = after.map(|after| ProxyModel { inbounds, ..after });
                    prop_assert_eq!(after.as_ref(), Some(model), "{}", said);
                    continue;
                }
                if touched.called.contains(*name) {
                    let calls = |model: &ProxyModel| ProxyModel { inbounds: Vec::<Inbound>::new(), ..model.clone() };
                    prop_assert_eq!(calls(model), calls(&before[name].0));
                    prop_assert_eq!(view.proxy_inbounds(name), Some(model.inbounds.clone()));
                } else {
                    prop_assert!(same_model, "{} touches {}: {:?}", said, name, touched);
                }
            }
            for (id, set) in &endpoints_now {
                if let Some(known) = endpoints_before.get(id) {
                    prop_assert!(known == set || touched.services.contains(&id.service), "{} moves {:?}", said, id);
                }
            }
            prop_assert!(touched.passable || passed_on(&view) == passed_on_before);
            prop_assert!(touched.offer || offered(&view) == offered_before);
        }
    }
}

#[test]
fn proxies_share_what_they_have_in_common() {
    let instance = |name: &str| Instance {
        dataplane: object(&format!(
            "apiVersion: ursamesh.io/v1alpha1\nkind: Dataplane\nmetadata: {{name: {name}}}\nspec:\n  networking:\n    address: \
             10.0.0.1\n    outbound: [{{port: 90, tags: {{ursamesh.io/service: a}}}}, {{port: 91, tags: {{ursamesh.io/service: b}}}}]\n"
        )),
        unready_ports: BTreeSet::new(),
        state: EndpointState::Healthy,
        out_of_service: false,
    };
    let mut view = MeshView::new(World::default().input());
    for name in ["d1", "d2"] {
        view.set_instance(name, Some(instance(name)), &mut Touched::default());
    }
    let [one, other] = ["d1", "d2"].map(|name| view.proxy(name).unwrap());
    assert!(one.outbounds.len() == 2 && one.destinations.len() == 2);
    let outbounds = one.outbounds.iter().zip(&other.outbounds);
    let destinations = one.destinations.iter().zip(&other.destinations);
    assert!(outbounds.into_iter().all(|(one, other)| Arc::ptr_eq(one, other)));
    assert!(destinations.into_iter().all(|(one, other)| Arc::ptr_eq(one, other)));
}
