//! The condition `Accepted`: whether the control plane takes a resource as it is, and what is wrong with it if not. Of a
//! zone's ingress: where it is reached.
//!
//! Source: <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md>.

use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use ursa_crds::{Kind, Problem, SocketSpec, ZoneIngressSpec};

use super::follow::is_later;
use super::{Cluster, texts, wire};

const MANAGER: &str = "ursa-cp";
const ACCEPTED: &str = "Accepted";
/// A condition's message is for people; what is wrong with a long list need not be told whole.
const MESSAGE: usize = 1024;

/// The status that says this, unless it says so already. Pure, but for the time.
fn status(stored: &DynamicObject, problems: &[Problem], now: Timestamp) -> Option<Value> {
    let (status, reason, message) = match problems {
        [] => ("True", ACCEPTED, "the control plane takes it as it is".to_owned()),
        problems => ("False", "Invalid", texts(problems).chars().take(MESSAGE).collect()),
    };
    let conditions = stored.data["status"]["conditions"].as_array();
    let known = conditions.into_iter().flatten().find(|condition| condition["type"] == ACCEPTED);
    let since =
        known.filter(|known| known["status"] == status).map(|known| known["lastTransitionTime"].clone());
    let condition = json!({
        "type": ACCEPTED, "status": status, "reason": reason, "message": message,
        "observedGeneration": stored.metadata.generation.unwrap_or_default(),
        "lastTransitionTime": since.unwrap_or_else(|| json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())),
    });
    // One that is older than the definitions does not speak against one that is not, of the same state: both may run.
    let said = known.is_some_and(|known| known["observedGeneration"] == condition["observedGeneration"]);
    if said && problems.iter().any(is_later) {
        return None;
    }
    (known != Some(&condition)).then(|| json!({"conditions": [condition]}))
}

/// Where a zone's ingress is reached, unless it is said already. Pure.
fn reached(stored: &DynamicObject) -> Option<Value> {
    let spec: ZoneIngressSpec = serde_json::from_value(stored.data.get("spec")?.clone()).ok()?;
    let SocketSpec { address, port } = spec.reached_at()?;
    let status = json!({"address": address, "port": port});
    let known = &stored.data["status"];
    (known["address"] != status["address"] || known["port"] != status["port"]).then_some(status)
}

/// Whether users look for a condition of objects of this kind: they write them, and here.
fn has_condition(kind: Kind, stored: &DynamicObject, system: &str) -> bool {
    kind.info().owner.is_users() && kind != Kind::Secret && !wire::is_copy(kind, stored, system)
}

/// Says whether an object is accepted; only if that is not what it says.
pub(super) fn tell(cluster: &Cluster, kind: Kind, stored: &DynamicObject, problems: &[Problem]) {
    let status = match kind {
        Kind::ZoneIngress => reached(stored),
        kind if has_condition(kind, stored, &cluster.namespace) => status(stored, problems, Timestamp::now()),
        _ => None,
    };
    let Some(status) = status else { return };
    let meta = &stored.metadata;
    let (name, namespace) =
        (meta.name.clone().unwrap_or_default(), meta.namespace.clone().unwrap_or_default());
    // A status that is about another state of the object is not written: that state's own follows.
    let patch = json!({
        "apiVersion": ursa_crds::API_VERSION, "kind": kind.info().name,
        "metadata": {"name": name, "resourceVersion": meta.resource_version}, "status": status,
    });
    let api = cluster.api(kind, &namespace);
    tokio::spawn(async move {
        let params = PatchParams::apply(MANAGER).force();
        match api.patch_status(&name, &params, &Patch::Apply(patch)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => tracing::warn!(%kind, namespace, name, %error, "cannot write the status"),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::follow::LATER;
    use super::*;

    #[test]
    fn an_ingress_is_told_where_it_is_reached_and_only_once() {
        let mut object: DynamicObject = serde_json::from_value(json!({
            "metadata": {"name": "west.ingress"},
            "spec": {"zone": "west", "networking": {"address": "10.0.0.9", "port": 1}, "advertised": {"address": "203.0.113.7"}},
        }))
        .unwrap();
        let told = reached(&object).unwrap();
        assert_eq!(told, json!({"address": "203.0.113.7", "port": 10_001}));
        object.data["status"] = told;
        assert_eq!(reached(&object), None);
        object.data["spec"] = json!({"zone": "west", "networking": {"address": "0.0.0.0"}});
        assert_eq!(reached(&object), None);
    }

    #[test]
    fn a_status_is_written_on_transitions_only() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let later: Timestamp = "2026-01-02T03:05:00Z".parse().unwrap();
        let object = |generation: i64, status: &Value| -> DynamicObject {
            serde_json::from_value(
                json!({"metadata": {"name": "p", "generation": generation}, "status": status}),
            )
            .unwrap()
        };
        let first = status(&object(1, &Value::Null), &[], now).unwrap();
        assert_eq!(first["conditions"][0]["status"], "True");
        assert_eq!(status(&object(1, &first), &[], later), None);
        // Another generation, the same verdict: since when it is so stays.
        let second = status(&object(2, &first), &[], later).unwrap();
        assert_eq!(second["conditions"][0]["lastTransitionTime"], "2026-01-02T03:04:05Z");
        let problems = [Problem::new("spec.conf", "is wrong")];
        let third = status(&object(3, &second), &problems, later).unwrap();
        let condition = &third["conditions"][0];
        assert_eq!(
            (&condition["status"], &condition["message"]),
            (&json!("False"), &json!("spec.conf: is wrong"))
        );
        assert_eq!(condition["lastTransitionTime"], "2026-01-02T03:05:00Z");
        assert_eq!(condition["observedGeneration"], 3);
        // A control plane that is too old says so, unless another one has judged this very state.
        let too_old = [Problem::new("spec.new", LATER)];
        assert_eq!(status(&object(2, &second), &too_old, later), None);
        assert_eq!(status(&object(3, &second), &too_old, later).unwrap()["conditions"][0]["status"], "False");
    }
}
