//! What the API server asks the webhook: about pods that are to get a sidecar, and about resources.
//!
//! Invariant: a pod is sent at most once, and never one of the system's own or of `kube-system`.

use k8s_openapi::ByteString;
use serde_json::{Value, json};
use ursa_crds::{ControlPlaneMode, KINDS, Kind, Owner};

use super::Source;
use ursa_inject::SYSTEM_NAMESPACES;

use crate::names::{INJECTION, Part};

/// Of pods and resources in these nothing is asked, so that an outage of the webhook does not keep the cluster down.
fn system_namespaces(source: &Source<'_>) -> Vec<String> {
    let system = SYSTEM_NAMESPACES.iter().map(|name| (*name).to_owned());
    system.chain([source.names.namespace.clone()]).collect()
}

/// Both configurations; without a bundle, cert-manager fills it in.
pub(super) fn objects(source: &Source<'_>, ca: Option<&str>) -> Vec<Value> {
    let mut objects = Vec::new();
    if source.injects() {
        objects.push(configuration(
            source,
            "MutatingWebhookConfiguration",
            "injection",
            ca,
            mutating(source),
        ));
    }
    objects.push(configuration(
        source,
        "ValidatingWebhookConfiguration",
        "validation",
        ca,
        vec![validating(source)],
    ));
    objects
}

fn configuration(
    source: &Source<'_>,
    kind: &str,
    what: &str,
    ca: Option<&str>,
    webhooks: Vec<Value>,
) -> Value {
    let mut metadata = source.cluster_meta(what);
    if ca.is_none() {
        let certificate = format!("{}/{}", source.names.namespace, source.names.tls(Part::Webhook));
        metadata["annotations"] = json!({"cert-manager.io/inject-ca-from": certificate});
    }
    let with_ca = |mut webhook: Value| {
        if let Some(ca) = ca {
            webhook["clientConfig"]["caBundle"] = json!(ByteString(ca.as_bytes().to_vec()));
        }
        webhook
    };
    let webhooks: Vec<Value> = webhooks.into_iter().map(with_ca).collect();
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": metadata, "webhooks": webhooks,
    })
}

fn client(source: &Source<'_>, path: &str) -> Value {
    json!({"service": {
        "namespace": source.names.namespace, "name": source.names.service(Part::Webhook), "path": path, "port": 443,
    }})
}

/// One entry by the namespace's label, one by the pod's: they exclude one another.
fn mutating(source: &Source<'_>) -> Vec<Value> {
    let namespaces = json!({
        "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": system_namespaces(source),
    });
    let label =
        |operator: &str, value: &str| json!({"key": INJECTION, "operator": operator, "values": [value]});
    let entry = |name: &str, namespace: Value, pod: Value| {
        json!({
            "name": name,
            "clientConfig": client(source, "/mutate-pods"),
            "rules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"],
                "scope": "Namespaced",
            }],
            "namespaceSelector": {"matchExpressions": [namespaces, namespace]},
            "objectSelector": {"matchExpressions": pod},
            "matchConditions": pod_conditions(source),
            "failurePolicy": source.spec.webhook.failure_policy,
            "timeoutSeconds": 5,
            "sideEffects": "None",
            "reinvocationPolicy": "IfNeeded",
            "matchPolicy": "Equivalent",
            "admissionReviewVersions": ["v1"],
        })
    };
    let wanted = label("NotIn", "disabled");
    // A label that says something else is sent as well: the webhook refuses it and says what is right.
    let labelled = json!({"key": INJECTION, "operator": "Exists"});
    vec![
        entry("namespace.injection.ursamesh.io", label("In", "enabled"), json!([wanted])),
        entry("pod.injection.ursamesh.io", label("NotIn", "enabled"), json!([labelled, wanted])),
    ]
}

/// Only pods that need it are sent. The selectors say some of it already; the API server checks these last, so that they
/// hold whatever becomes of labels.
fn pod_conditions(source: &Source<'_>) -> Value {
    let quoted: Vec<String> = system_namespaces(source).iter().map(|name| format!("'{name}'")).collect();
    json!([
        {"name": "not-system", "expression": format!("!(request.namespace in [{}])", quoted.join(", "))},
        {
            "name": "not-opted-out",
            "expression": format!(
                "!has(object.metadata.labels) || !('{INJECTION}' in object.metadata.labels) || object.metadata.labels['{INJECTION}'] != 'disabled'"
            ),
        },
        {
            // Static pods, as the kubelet shows them: the API server cannot change them.
            "name": "not-static",
            "expression": "!has(object.metadata.annotations) || !('kubernetes.io/config.mirror' in object.metadata.annotations)",
        },
        {
            "name": "not-ours",
            "expression": "!has(object.metadata.labels) || !('app.kubernetes.io/managed-by' in object.metadata.labels) || object.metadata.labels['app.kubernetes.io/managed-by'] != 'ursa-operator'",
        },
    ])
}

/// Resources that users write; in a zone also what others own, which users may not write there. The system's own accounts
/// are not asked about, so that an outage never blocks recovery.
fn validating(source: &Source<'_>) -> Value {
    let in_zone = source.spec.mode == ControlPlaneMode::Zone;
    let resources: Vec<&str> = KINDS
        .iter()
        .filter(|info| {
            info.owner.is_users() && info.kind != Kind::Secret || in_zone && info.owner == Owner::Zone
        })
        .map(|info| info.plural)
        .collect();
    let operations: &[&str] = if in_zone { &["CREATE", "UPDATE", "DELETE"] } else { &["CREATE", "UPDATE"] };
    let accounts: Vec<String> = [
        source.names.part(Part::ControlPlane),
        source.names.part(Part::Webhook),
        source.defaults.operator_account.clone(),
    ]
    .iter()
    .map(|account| format!("'system:serviceaccount:{}:{account}'", source.names.namespace))
    .collect();
    json!({
        "name": "validation.ursamesh.io",
        "clientConfig": client(source, "/validate"),
        "rules": [{
            "apiGroups": [ursa_crds::GROUP], "apiVersions": [ursa_crds::VERSION], "resources": resources,
            "operations": operations, "scope": "*",
        }],
        "matchConditions": [
            {"name": "not-ours", "expression": format!("!(request.userInfo.username in [{}])", accounts.join(", "))},
            {
                "name": "not-of-the-cluster",
                "expression": "!('system:serviceaccounts:kube-system' in request.userInfo.groups)",
            },
            // Finalizers of what is being deleted can always be removed.
            {"name": "not-going", "expression": "object == null || !has(object.metadata.deletionTimestamp)"},
        ],
        "failurePolicy": source.spec.webhook.failure_policy,
        "timeoutSeconds": 5,
        "sideEffects": "None",
        "matchPolicy": "Equivalent",
        "admissionReviewVersions": ["v1"],
    })
}
