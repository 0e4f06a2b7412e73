//! What holds for every pod: injecting twice is injecting once, and what others put in a pod stays as they put it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails in a test is to end it, in its helpers too"
)]

use k8s_openapi::api::core::v1::Namespace;
use proptest::prelude::*;
use serde_json::{Value, json};
use ursa_inject::{INIT_CONTAINER, Outcome, SIDECAR_CONTAINER, Settings, Unchanged, inject};

const OWN: [&str; 2] = [INIT_CONTAINER, SIDECAR_CONTAINER];
const PROBES: [&str; 3] = ["startupProbe", "livenessProbe", "readinessProbe"];

fn settings() -> Settings {
    serde_json::from_value(json!({
        "image": "ursa-dp:1",
        "controlPlane": {"address": "https://ursa:5678", "caPem": "-----BEGIN CERTIFICATE-----\n"},
    }))
    .unwrap()
}

fn namespace() -> Namespace {
    let labels = json!({"ursamesh.io/sidecar-injection": "enabled"});
    serde_json::from_value(json!({"metadata": {"name": "demo", "labels": labels}})).unwrap()
}

/// The pod after injection, however often it was injected before.
fn injected(pod: &Value) -> Value {
    match inject(pod, &namespace(), &settings()).unwrap() {
        Outcome::Patched(patched) => patched,
        Outcome::Unchanged(Unchanged::AlreadyInjected) => pod.clone(),
        Outcome::Unchanged(why) => panic!("{why}"),
    }
}

fn probe() -> impl Strategy<Value = Value> {
    let port = prop_oneof![(1..15000_u16).prop_map(|port| json!(port)), Just(json!("web"))];
    let handler = prop_oneof![
        (port.clone(), "/[a-z$(){}\"\\\\]{0,6}")
            .prop_map(|(port, path)| json!({"httpGet": {"port": port, "path": path}})),
        port.prop_map(|port| json!({"tcpSocket": {"port": port}})),
        (1..15000_u16).prop_map(|port| json!({"grpc": {"port": port}})),
        Just(json!({"exec": {"command": ["true"]}})),
    ];
    (handler, proptest::option::of(1..9_u8), any::<bool>()).prop_map(|(mut probe, timeout, newer)| {
        if let Some(timeout) = timeout {
            probe["timeoutSeconds"] = json!(timeout);
        }
        if newer {
            probe["fieldOfANewerRelease"] = json!({"a": [1, null]});
        }
        probe
    })
}

/// Containers with these letters before their number, so that no two of a pod share a name.
fn containers(letter: char, least: usize) -> impl Strategy<Value = Vec<Value>> {
    let container = (proptest::option::of(probe()), proptest::option::of(probe()), any::<bool>());
    proptest::collection::vec(container, least..4).prop_map(move |all| {
        let made = all.into_iter().enumerate().map(|(position, (liveness, readiness, newer))| {
            let mut container = json!({"name": format!("{letter}{position}"), "image": "app:1", "env": []});
            container["ports"] = json!([{"name": "web", "containerPort": 8080}]);
            for (name, probe) in [("livenessProbe", liveness), ("readinessProbe", readiness)] {
                if let Some(probe) = probe {
                    container[name] = probe;
                }
            }
            if newer {
                container["fieldOfANewerRelease"] = json!("x");
            }
            container
        });
        made.collect()
    })
}

fn pod() -> impl Strategy<Value = Value> {
    let lists = (containers('a', 1), containers('i', 0), any::<bool>(), any::<bool>(), any::<bool>());
    lists.prop_map(|(containers, init, native, nulls, newer)| {
        let mode = if native { "Native" } else { "Container" };
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "annotations": {"ursamesh.io/sidecar-mode": mode}},
            "spec": {"containers": containers},
        });
        if !init.is_empty() {
            pod["spec"]["initContainers"] = json!(init);
        } else if nulls {
            pod["spec"]["initContainers"] = Value::Null;
            pod["spec"]["volumes"] = Value::Null;
        }
        if newer {
            pod["spec"]["fieldOfANewerRelease"] = json!([{}]);
        }
        pod
    })
}

/// All containers of others, in order, without what may change in them.
fn foreign(pod: &Value) -> Vec<Value> {
    let lists = ["initContainers", "containers"]
        .iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    let others = lists.filter(|container| !OWN.contains(&container["name"].as_str().unwrap()));
    others.map(|container| without_handlers(container.clone())).collect()
}

fn without_handlers(mut container: Value) -> Value {
    for probe in PROBES {
        if let Some(probe) = container.get_mut(probe).and_then(Value::as_object_mut) {
            for handler in ["httpGet", "tcpSocket", "grpc"] {
                probe.remove(handler);
            }
        }
    }
    container
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    let containers = pod["spec"][list].as_array().into_iter().flatten();
    containers.map(|container| container["name"].as_str().unwrap().to_owned()).collect()
}

/// How another webhook may edit a pod between two calls.
fn edit(pod: &mut Value, list: &str, front: bool, more: Vec<Value>) {
    if pod["spec"][list].is_null() {
        pod["spec"][list] = json!([]);
    }
    let list = pod["spec"][list].as_array_mut().unwrap();
    let at = if front { 0 } else { list.len() };
    list.splice(at..at, more);
}

proptest! {
    #[test]
    fn injecting_twice_is_injecting_once(pod in pod()) {
        let once = injected(&pod);
        prop_assert_eq!(&injected(&once), &once);
        let mut applied = pod.clone();
        json_patch::patch(&mut applied, &json_patch::diff(&pod, &once)).unwrap();
        prop_assert_eq!(applied, once);
    }

    #[test]
    fn what_others_put_in_a_pod_stays(pod in pod(), more in containers('z', 0), front in any::<bool>(), init in any::<bool>()) {
        let list = if init { "initContainers" } else { "containers" };
        let mut edited = injected(&pod);
        prop_assert_eq!(foreign(&edited), foreign(&pod));
        edit(&mut edited, list, front, more);
        let again = injected(&edited);
        prop_assert_eq!(foreign(&again), foreign(&edited));
        prop_assert_eq!(&injected(&again), &again);
        let native = pod["metadata"]["annotations"]["ursamesh.io/sidecar-mode"] == "Native";
        let first = names(&again, "initContainers");
        prop_assert_eq!(if native { first.first() } else { first.last() }.unwrap(), INIT_CONTAINER);
        let (list, at) = if native { ("initContainers", 1) } else { ("containers", 0) };
        prop_assert_eq!(&names(&again, list)[at], SIDECAR_CONTAINER);
    }

    /// The same pod comes of it whether another webhook edited it before or after.
    #[test]
    fn the_order_of_webhooks_does_not_matter(pod in pod(), more in containers('z', 0)) {
        let mut before = pod.clone();
        edit(&mut before, "containers", false, more.clone());
        let mut after = injected(&pod);
        edit(&mut after, "containers", false, more);
        let (before, after) = (injected(&before), injected(&after));
        for list in ["initContainers", "containers"] {
            prop_assert_eq!(names(&before, list), names(&after, list));
        }
        prop_assert_eq!(targets(&before), targets(&after));
    }
}

fn targets(pod: &Value) -> Option<Value> {
    let lists = ["initContainers", "containers"]
        .iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    let sidecar = lists.into_iter().find(|container| container["name"] == SIDECAR_CONTAINER)?;
    let variable = sidecar["env"].as_array()?.iter().find(|variable| variable["name"] == "URSA_DP_PROBES")?;
    Some(serde_json::from_str(variable["value"].as_str()?).unwrap())
}

/// What clients may send in any place.
fn anything() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        Just(json!([])),
        Just(json!({})),
        Just(json!([null])),
        Just(json!([{}])),
        Just(json!("x")),
        any::<i64>().prop_map(|number| json!(number)),
    ]
}

/// Every place in a value, as a pointer.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, field)| {
            pointers(field, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
        }),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(position, item)| pointers(item, &format!("{at}/{position}"), found));
        }
        _ => {}
    }
}

proptest! {
    /// The API server checks a pod's form before, but nothing here relies on that.
    #[test]
    fn a_pod_of_any_form_is_answered(pod in pod(), place in any::<prop::sample::Index>(), by in anything(), first in any::<bool>()) {
        let mut pod = if first { pod } else { injected(&pod) };
        let mut places = Vec::new();
        pointers(&pod, "", &mut places);
        let place: &String = place.get(&places);
        *pod.pointer_mut(place).unwrap() = by;
        if let Ok(Outcome::Patched(patched)) = inject(&pod, &namespace(), &settings()) {
            prop_assert_eq!(injected(&patched), patched);
        }
    }
}
