//! Reviews as the API server sends them, and what is in their answers.

use k8s_openapi::ByteString;
use serde_json::{Value, json};

/// A pod with one container.
pub(crate) fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "web-"},
        "spec": {"containers": [{"name": "app", "image": "app:1"}], "fieldOfANewerRelease": 1},
    })
}

/// A new pod in a namespace.
pub(crate) fn new_pod(namespace: &str, pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": namespace, "operation": "CREATE", "object": pod, "oldObject": null, "dryRun": true,
            "userInfo": {"username": "admin"}, "options": {"kind": "CreateOptions"},
        },
    })
}

/// The pod that an answer makes of this one.
pub(crate) fn patched(pod: &Value, response: &Value) -> Value {
    assert_eq!(response["allowed"], true, "{response}");
    assert_eq!(response["patchType"], "JSONPatch", "{response}");
    let ByteString(patch) = serde_json::from_value(response["patch"].clone()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

/// The image of the sidecar that an answer adds.
pub(crate) fn image(pod: &Value, response: &Value) -> String {
    patched(pod, response)["spec"]["initContainers"][1]["image"].as_str().unwrap().to_owned()
}
