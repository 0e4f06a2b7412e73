//! Who may do what: the accounts of control plane and webhook with no more than they use.
//!
//! Invariant: the rules are constants, so that the operator's own role, which must hold them all, is made of them.

use serde_json::{Value, json};
use ursa_crds::{KINDS, Kind};

use super::{PARTS, Source};
use crate::names::Part;

const READ: [&str; 3] = ["get", "list", "watch"];
const RBAC: &str = "rbac.authorization.k8s.io";

/// The plurals of the mesh's kinds on the API server.
pub fn mesh_plurals() -> Vec<&'static str> {
    KINDS.iter().filter(|info| info.kind != Kind::Secret).map(|info| info.plural).collect()
}

fn statuses() -> Vec<String> {
    mesh_plurals().iter().map(|plural| format!("{plural}/status")).collect()
}

/// What a part may do in the whole cluster.
pub fn cluster_rules(part: Part) -> Vec<Value> {
    match part {
        Part::ControlPlane => vec![
            json!({"apiGroups": [""], "resources": ["pods", "services", "namespaces"], "verbs": READ}),
            json!({"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": READ}),
            json!({"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}),
            json!({
                "apiGroups": [ursa_crds::GROUP], "resources": mesh_plurals(),
                "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
            }),
            json!({"apiGroups": [ursa_crds::GROUP], "resources": statuses(), "verbs": ["get", "update", "patch"]}),
            json!({"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]}),
        ],
        Part::Webhook => vec![
            json!({"apiGroups": [""], "resources": ["namespaces"], "verbs": READ}),
            json!({"apiGroups": [ursa_crds::GROUP], "resources": mesh_plurals(), "verbs": READ}),
        ],
    }
}

/// What a part may do in its own namespace.
pub fn namespace_rules(part: Part) -> Vec<Value> {
    match part {
        Part::ControlPlane => vec![
            // Authorities, signing keys and what users keep secret: the store has them here.
            json!({
                "apiGroups": [""], "resources": ["secrets"],
                "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
            }),
            json!({
                "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
                "verbs": ["get", "list", "watch", "create", "update", "patch"],
            }),
            // A zone's control plane tells whether it is connected to global.
            json!({"apiGroups": [ursa_crds::GROUP], "resources": ["controlplanes/status"], "verbs": ["patch"]}),
        ],
        Part::Webhook => Vec::new(),
    }
}

/// Accounts, roles and bindings.
pub(super) fn objects(source: &Source<'_>) -> Vec<Value> {
    PARTS.into_iter().flat_map(|part| of(source, part)).collect()
}

fn of(source: &Source<'_>, part: Part) -> Vec<Value> {
    let name = source.names.part(part);
    let cluster_name = source.names.cluster(part.program());
    let subjects = json!([{"kind": "ServiceAccount", "name": name, "namespace": source.names.namespace}]);
    let mut objects = vec![
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": source.meta(&name),
            // Mounted by the Deployments themselves, where they say so.
            "automountServiceAccountToken": false,
        }),
        json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole",
            "metadata": source.cluster_meta(part.program()), "rules": cluster_rules(part),
        }),
        json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding",
            "metadata": source.cluster_meta(part.program()),
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": cluster_name},
            "subjects": subjects,
        }),
    ];
    let rules = namespace_rules(part);
    if !rules.is_empty() {
        objects.push(json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "Role", "metadata": source.meta(&name), "rules": rules,
        }));
        objects.push(json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding", "metadata": source.meta(&name),
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
            "subjects": subjects,
        }));
    }
    objects
}
