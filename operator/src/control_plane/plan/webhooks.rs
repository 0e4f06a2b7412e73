//! What the API server asks the webhook: about pods that are to get a sidecar, and about resources. And what it asks the
//! control plane: about authorities, since only that one knows what proxies trust.
//!
//! Invariant: a pod is sent at most once, and never one of the system's own or of `kube-system`.

use k8s_openapi::ByteString;
use serde_json::{Value, json};
use ursa_crds::{ControlPlaneMode, KINDS, Kind, Owner};

use super::Source;
use super::service::API;
use ursa_inject::SYSTEM_NAMESPACES;

use crate::names::{INJECTION, Part};

/// What judges resources.
pub(crate) const VALIDATION: &str = "validation.ursamesh.io";

/// Of pods and resources in these nothing is asked, so that an outage of the webhook does not keep the cluster down.
fn system_namespaces(source: &Source<'_>) -> Vec<String> {
    let system = SYSTEM_NAMESPACES.iter().map(|name| (*name).to_owned());
    system.chain([source.names.namespace.clone()]).collect()
}

/// All configurations; without a bundle, cert-manager fills it in.
pub(super) fn objects(source: &Source<'_>, ca: Option<&str>) -> Vec<Value> {
    const MUTATING: &str = "MutatingWebhookConfiguration";
    const VALIDATING: &str = "ValidatingWebhookConfiguration";
    let mut objects = Vec::new();
    if source.injects() {
        objects.push(configuration(source, MUTATING, "injection", (Part::Webhook, ca), mutating(source)));
    }
    let validating = vec![validating(source)];
    objects.push(configuration(source, VALIDATING, "validation", (Part::Webhook, ca), validating));
    if source.spec.mode != ControlPlaneMode::Zone {
        let webhooks = vec![rotation(source), authority_secrets(source)];
        objects.push(configuration(source, VALIDATING, "authorities", (Part::ControlPlane, ca), webhooks));
    }
    objects
}

/// `asked`: who answers, and by what it is trusted.
fn configuration(
    source: &Source<'_>,
    kind: &str,
    what: &str,
    asked: (Part, Option<&str>),
    webhooks: Vec<Value>,
) -> Value {
    let mut metadata = source.cluster_meta(what);
    let (part, ca) = asked;
    if ca.is_none() {
        let certificate = format!("{}/{}", source.names.namespace, source.names.tls(part));
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

/// Where a part answers.
fn client(source: &Source<'_>, part: Part, path: &str) -> Value {
    let port = if part == Part::Webhook { 443 } else { API };
    json!({"service": {
        "namespace": source.names.namespace, "name": source.names.service(part), "path": path, "port": port,
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
            "clientConfig": client(source, Part::Webhook, "/mutate-pods"),
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
    let rule = json!({
        "apiGroups": [ursa_crds::GROUP], "apiVersions": [ursa_crds::VERSION], "resources": resources,
        "operations": operations, "scope": "*",
    });
    let client = client(source, Part::Webhook, "/validate");
    judged(source, VALIDATION, client, rule, users_conditions(source))
}

/// What somebody refuses or takes as it is.
fn judged(source: &Source<'_>, name: &str, client: Value, rule: Value, conditions: Vec<Value>) -> Value {
    json!({
        "name": name,
        "clientConfig": client,
        "rules": [rule],
        "matchConditions": conditions,
        "failurePolicy": source.spec.webhook.failure_policy,
        "timeoutSeconds": 5,
        "sideEffects": "None",
        "matchPolicy": "Equivalent",
        "admissionReviewVersions": ["v1"],
    })
}

/// Only what users write, and is to stay.
fn users_conditions(source: &Source<'_>) -> Vec<Value> {
    let account = |name: &str| format!("'system:serviceaccount:{}:{name}'", source.names.namespace);
    let parts = [Part::ControlPlane, Part::Webhook].map(|part| account(&source.names.part(part)));
    let (parts, operator) = (parts.join(", "), account(&source.defaults.operator_account));
    // By dry runs the operator sees whether the webhook is asked.
    let ours = format!(
        "request.userInfo.username in [{parts}] || request.userInfo.username == {operator} && \
         !(has(request.dryRun) && request.dryRun)"
    );
    vec![
        json!({"name": "not-ours", "expression": format!("!({ours})")}),
        json!({
            "name": "not-of-the-cluster",
            "expression": "!('system:serviceaccounts:kube-system' in request.userInfo.groups)",
        }),
        // Finalizers of what is being deleted can always be removed.
        json!({"name": "not-going", "expression": "object == null || !has(object.metadata.deletionTimestamp)"}),
    ]
}

/// Meshes whose authorities are to change.
fn rotation(source: &Source<'_>) -> Value {
    let mtls = |object: &str| {
        format!("(has({object}.spec) && has({object}.spec.mtls) ? dyn({object}.spec.mtls) : dyn({{}}))")
    };
    let changes =
        json!({"name": "changes-mtls", "expression": format!("{} != {}", mtls("object"), mtls("oldObject"))});
    let rule = json!({
        "apiGroups": [ursa_crds::GROUP], "apiVersions": [ursa_crds::VERSION], "resources": [Kind::Mesh.info().plural],
        "operations": ["UPDATE"], "scope": "Cluster",
    });
    asked_of_the_control_plane(source, "meshes.authorities.ursamesh.io", rule, changes)
}

/// The Secrets of the control plane that users write: authorities may come from them.
fn authority_secrets(source: &Source<'_>) -> Value {
    let of_users = json!({
        "name": "of-users", "expression": "(object == null ? oldObject : object).type == 'ursamesh.io/secret'",
    });
    let rule = json!({
        "apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"], "operations": ["UPDATE", "DELETE"],
        "scope": "Namespaced",
    });
    let mut webhook = asked_of_the_control_plane(source, "secrets.authorities.ursamesh.io", rule, of_users);
    webhook["namespaceSelector"] =
        json!({"matchLabels": {"kubernetes.io/metadata.name": source.names.namespace}});
    webhook
}

fn asked_of_the_control_plane(source: &Source<'_>, name: &str, rule: Value, condition: Value) -> Value {
    let mut conditions = users_conditions(source);
    conditions.push(condition);
    judged(source, name, client(source, Part::ControlPlane, "/admission"), rule, conditions)
}
