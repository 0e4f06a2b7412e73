//! Where the sidecar's parts go in a pod, as JSON: fields that no type here knows stay as they are.

use k8s_openapi::api::core::v1::{Container, Pod};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::SidecarMode;
use crate::names::{INIT_CONTAINER, INJECTED, SIDECAR_CONTAINER, STATUS_ANNOTATION};

/// Where `kubectl logs` and `exec` go if no container is named.
/// Source: <https://kubernetes.io/docs/reference/labels-annotations-taints/#kubectl-kubernetes-io-default-container>.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Both lists that may hold containers with probes.
pub(crate) const LISTS: [&str; 2] = ["initContainers", "containers"];

/// Adds both containers; [`sort`] puts them in their places.
pub(crate) fn add(pod: &mut Value, init: Container, mut sidecar: Container, mode: SidecarMode) {
    let spec = &mut pod["spec"];
    list(spec, "initContainers").push(value(&init));
    match mode {
        SidecarMode::Native => {
            sidecar.restart_policy = Some("Always".to_owned());
            list(spec, "initContainers").push(value(&sidecar));
        }
        SidecarMode::Container => list(spec, "containers").push(value(&sidecar)),
    }
}

/// Capture comes first, then the proxy, then all others in the order that they have: whatever runs before is not meshed.
/// Where the proxy is no init container, capture comes after the others, which would call a proxy that is not there yet.
/// Others may have put theirs elsewhere since.
pub(crate) fn sort(pod: &mut Value) {
    let is_sidecar = |container: &Value| container["name"] == SIDECAR_CONTAINER;
    let native = pod["spec"]["initContainers"].as_array().is_some_and(|list| list.iter().any(is_sidecar));
    for name in LISTS {
        if let Some(list) = pod["spec"].get_mut(name).and_then(Value::as_array_mut) {
            list.sort_by_key(|container| match container["name"].as_str() {
                Some(INIT_CONTAINER) => {
                    if native {
                        0
                    } else {
                        3
                    }
                }
                Some(SIDECAR_CONTAINER) => 1,
                _ => 2,
            });
        }
    }
}

/// Says that the pod is injected, and which container is the application's, unless that is said already.
pub(crate) fn annotate(pod: &mut Value, before: &Pod) {
    if before.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(STATUS_ANNOTATION)) {
        return;
    }
    let annotations = map(&mut pod["metadata"]["annotations"]);
    annotations.insert(STATUS_ANNOTATION.to_owned(), json!(INJECTED));
    let mut containers = before.spec.iter().flat_map(|spec| &spec.containers);
    let first = containers.find(|container| container.name != SIDECAR_CONTAINER);
    if let Some(first) = first
        && !annotations.contains_key(DEFAULT_CONTAINER)
    {
        annotations.insert(DEFAULT_CONTAINER.to_owned(), json!(first.name));
    }
}

/// The list of this name, made if it is not there.
pub(crate) fn list<'a>(parent: &'a mut Value, name: &str) -> &'a mut Vec<Value> {
    let list = &mut parent[name];
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut().expect("the pod was read, so that its lists are lists")
}

/// The map, made if there is none.
fn map(value: &mut Value) -> &mut Map<String, Value> {
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut().expect("the pod was read, so that its maps are maps")
}

/// As JSON.
pub(crate) fn value(part: &impl Serialize) -> Value {
    serde_json::to_value(part).expect("types of Kubernetes have a JSON form")
}
