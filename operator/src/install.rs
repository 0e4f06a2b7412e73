//! The operator's own manifest: what `config/` and `ursactl install operator` are generated from. Pure.
//!
//! Invariant: the operator may do what it does and what it grants to others, and no more; in namespaces other than its own
//! it changes nothing but conditions of pods.

use serde_json::{Map, Value, json};

use crate::control_plane::plan::rbac;
use crate::names::{INJECTION, OPERATOR, Part};

const RBAC: &str = "rbac.authorization.k8s.io";
const USER: i64 = 65_532;
const DIAGNOSTICS: u16 = 5680;

/// What installations differ in.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The operator's namespace, and that of the ControlPlanes it acts on.
    pub namespace: String,
    /// The image of operator, control plane and webhook.
    pub image: String,
    /// The image of sidecars.
    pub dataplane_image: String,
    /// What the operator logs.
    pub log: String,
    /// Further fields of the pod's specification.
    pub pod: Map<String, Value>,
    /// Further fields of the container.
    pub container: Map<String, Value>,
}

impl Installation {
    /// As released.
    pub fn released() -> Self {
        let resources = json!({"requests": {"cpu": "50m", "memory": "64Mi"}});
        Self {
            namespace: "ursa-system".to_owned(),
            image: concat!("ursa:", env!("CARGO_PKG_VERSION")).to_owned(),
            dataplane_image: concat!("ursa-dp:", env!("CARGO_PKG_VERSION")).to_owned(),
            log: "info".to_owned(),
            pod: Map::new(),
            container: Map::from_iter([("resources".to_owned(), resources)]),
        }
    }

    /// The namespace, whose pods are restricted by Pod Security.
    pub fn namespace(&self) -> Value {
        let level = "restricted";
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": self.namespace, "labels": {
                "app.kubernetes.io/part-of": "ursa",
                INJECTION: "disabled",
                "pod-security.kubernetes.io/enforce": level,
                "pod-security.kubernetes.io/audit": level,
                "pod-security.kubernetes.io/warn": level,
            }},
        })
    }

    /// The account, and what it may do.
    pub fn rbac(&self) -> Vec<Value> {
        let subjects = json!([{"kind": "ServiceAccount", "name": OPERATOR, "namespace": self.namespace}]);
        vec![
            json!({
                "apiVersion": "v1", "kind": "ServiceAccount", "metadata": self.meta(),
                "automountServiceAccountToken": false,
            }),
            json!({
                "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole", "metadata": cluster_meta(&self.cluster_name()),
                "rules": cluster_rules(),
            }),
            json!({
                "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding",
                "metadata": cluster_meta(&self.cluster_name()),
                "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": self.cluster_name()},
                "subjects": subjects,
            }),
            json!({
                "apiVersion": format!("{RBAC}/v1"), "kind": "Role", "metadata": self.meta(),
                "rules": namespace_rules(),
            }),
            json!({
                "apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding", "metadata": self.meta(),
                "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": OPERATOR},
                "subjects": subjects,
            }),
        ]
    }

    /// The program.
    pub fn program(&self) -> Vec<Value> {
        let selector = json!({"app.kubernetes.io/name": OPERATOR});
        let mut labels = selector.clone();
        labels["app.kubernetes.io/part-of"] = json!("ursa");
        labels[INJECTION] = json!("disabled");
        vec![
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": self.meta(),
                "spec": {
                    "podSelector": {"matchLabels": selector},
                    "policyTypes": ["Ingress"],
                    "ingress": [{"ports": [{"port": DIAGNOSTICS, "protocol": "TCP"}]}],
                },
            }),
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": self.meta(),
                "spec": {
                    // Nothing waits for the operator; a second one would only wait for the Lease.
                    "replicas": 1,
                    "revisionHistoryLimit": 3,
                    "selector": {"matchLabels": selector},
                    "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                    "template": {"metadata": {"labels": labels}, "spec": self.pod()},
                },
            }),
        ]
    }

    fn pod(&self) -> Value {
        let mut pod = json!({
            "serviceAccountName": OPERATOR,
            "automountServiceAccountToken": true,
            "enableServiceLinks": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [self.container()],
        });
        extend(&mut pod, &self.pod);
        pod
    }

    fn container(&self) -> Value {
        let field =
            |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        let probe = |path: &str, period: i32| json!({"httpGet": {"path": path, "port": DIAGNOSTICS}, "periodSeconds": period, "timeoutSeconds": 3});
        let mut container = json!({
            "name": OPERATOR,
            "image": self.image,
            "command": [format!("/usr/local/bin/{OPERATOR}"), "run"],
            "env": [
                field("URSA_OPERATOR_NAMESPACE", "metadata.namespace"),
                field("URSA_OPERATOR_SERVICE_ACCOUNT", "spec.serviceAccountName"),
                {"name": "URSA_OPERATOR_IMAGE", "value": self.image},
                {"name": "URSA_OPERATOR_DATAPLANE_IMAGE", "value": self.dataplane_image},
                {"name": "URSA_OPERATOR_LOG", "value": self.log},
            ],
            "ports": [{"name": "diagnostics", "containerPort": DIAGNOSTICS, "protocol": "TCP"}],
            "livenessProbe": probe("/healthz", 10),
            // Ready means that the definitions are in force: ControlPlanes can be created.
            "readinessProbe": probe("/readyz", 2),
            "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
            },
        });
        extend(&mut container, &self.container);
        container
    }

    /// Of one operator, so that two in different namespaces do not share rights.
    fn cluster_name(&self) -> String {
        format!("{}.{OPERATOR}", self.namespace)
    }

    fn meta(&self) -> Value {
        json!({"name": OPERATOR, "namespace": self.namespace, "labels": {"app.kubernetes.io/part-of": "ursa"}})
    }
}

fn extend(object: &mut Value, fields: &Map<String, Value>) {
    for (key, value) in fields {
        object[key] = value.clone();
    }
}

fn cluster_meta(name: &str) -> Value {
    json!({"name": name, "labels": {"app.kubernetes.io/part-of": "ursa"}})
}

/// What the operator may do in the whole cluster.
fn cluster_rules() -> Vec<Value> {
    let mut rules = vec![
        json!({
            "apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"],
            "verbs": ["get", "list", "watch", "create", "patch"],
        }),
        // Only roles with what is listed here can be made: the API server sees to it.
        json!({
            "apiGroups": [RBAC], "resources": ["clusterroles", "clusterrolebindings"],
            "verbs": ["get", "list", "watch", "create", "patch", "delete"],
        }),
        json!({
            "apiGroups": ["admissionregistration.k8s.io"],
            "resources": ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"],
            "verbs": ["get", "list", "watch", "create", "patch", "delete"],
        }),
        // Tells pods that have no sidecar and should.
        json!({"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"]}),
        // Zone ingresses at ports of nodes are reached at the nodes' addresses.
        json!({"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}),
    ];
    // What it grants.
    for part in [Part::ControlPlane, Part::Webhook] {
        for rule in rbac::cluster_rules(part) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    rules
}

/// What the operator may do in its own namespace.
fn namespace_rules() -> Vec<Value> {
    let verbs = ["get", "list", "watch", "create", "patch"];
    let mut rules = vec![
        json!({
            "apiGroups": [ursa_crds::GROUP], "resources": ["controlplanes"],
            "verbs": ["get", "list", "watch", "patch"],
        }),
        json!({
            "apiGroups": [ursa_crds::GROUP], "resources": ["controlplanes/status", "controlplanes/finalizers"],
            "verbs": ["patch", "update"],
        }),
        json!({
            "apiGroups": [ursa_crds::GROUP], "resources": ["zoneingresses"], "verbs": ["get", "list", "watch"],
        }),
        json!({
            "apiGroups": [ursa_crds::GROUP], "resources": ["zoneingresses/status", "zoneingresses/finalizers"],
            "verbs": ["patch", "update"],
        }),
        json!({"apiGroups": [""], "resources": ["serviceaccounts", "services", "configmaps"], "verbs": verbs}),
        json!({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": verbs}),
        json!({"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": verbs}),
        json!({"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": verbs}),
        json!({"apiGroups": [RBAC], "resources": ["roles", "rolebindings"], "verbs": verbs}),
        json!({"apiGroups": ["cert-manager.io"], "resources": ["certificates"], "verbs": ["get", "create", "patch"]}),
    ];
    for part in [Part::ControlPlane, Part::Webhook] {
        rules.extend(rbac::namespace_rules(part));
    }
    rules
}

/// Roles for people, which Kubernetes' own `view`, `edit` and `admin` take in.
pub fn aggregated_roles() -> Vec<Value> {
    let role = |name: &str, into: &[&str], rules: Value| {
        let mut labels = json!({"app.kubernetes.io/part-of": "ursa"});
        for into in into {
            labels[format!("{RBAC}/aggregate-to-{into}")] = json!("true");
        }
        json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole",
            "metadata": {"name": name, "labels": labels}, "rules": rules,
        })
    };
    let rule = |resources: Vec<&str>, verbs: &[&str]| json!({"apiGroups": [ursa_crds::GROUP], "resources": resources, "verbs": verbs});
    let write = ["create", "update", "patch", "delete", "deletecollection"];
    let mut all = rbac::mesh_plurals();
    all.extend(ursa_crds::OPERATOR_KINDS.iter().map(|kind| kind.plural));
    let of_cluster = |cluster: bool| {
        let kinds = ursa_crds::KINDS.iter().filter(move |info| {
            info.namespaced != cluster && info.owner.is_users() && info.kind != ursa_crds::Kind::Secret
        });
        // A Dataplane says of itself what it serves: on Kubernetes it is for administrators to write.
        kinds.map(|info| info.plural).filter(|plural| *plural != "dataplanes").collect::<Vec<_>>()
    };
    let mut administrators = of_cluster(true);
    administrators.extend(["dataplanes", "zoneingresses", "controlplanes"]);
    vec![
        role("ursa-view", &["view", "edit", "admin"], json!([rule(all, &["get", "list", "watch"])])),
        role("ursa-edit", &["edit", "admin"], json!([rule(of_cluster(false), &write)])),
        role("ursa-admin", &["admin"], json!([rule(administrators, &write)])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether some rule allows the verb; rules here name neither `*` nor single objects.
    fn allows(rules: &[Value], group: &str, resource: &str, verb: &str) -> bool {
        let has = |list: &Value, item: &str| {
            list.as_array().is_some_and(|list| list.iter().any(|found| found == item))
        };
        rules.iter().any(|rule| {
            has(&rule["apiGroups"], group) && has(&rule["resources"], resource) && has(&rule["verbs"], verb)
        })
    }

    fn each(rule: &Value, mut check: impl FnMut(&str, &str, &str)) {
        let texts = |key: &str| -> Vec<String> { serde_json::from_value(rule[key].clone()).unwrap() };
        for group in texts("apiGroups") {
            for resource in texts("resources") {
                for verb in texts("verbs") {
                    check(&group, &resource, &verb);
                }
            }
        }
    }

    #[test]
    fn the_operator_holds_what_it_grants() {
        for part in [Part::ControlPlane, Part::Webhook] {
            for rule in rbac::cluster_rules(part) {
                each(&rule, |group, resource, verb| {
                    assert!(allows(&cluster_rules(), group, resource, verb), "{group} {resource} {verb}");
                });
            }
            let mut own = cluster_rules();
            own.extend(namespace_rules());
            for rule in rbac::namespace_rules(part) {
                each(&rule, |group, resource, verb| {
                    assert!(allows(&own, group, resource, verb), "{group} {resource} {verb}");
                });
            }
        }
    }

    #[test]
    fn nothing_is_granted_by_wildcard_and_secrets_only_in_the_own_namespace() {
        let mut rules = cluster_rules();
        for rule in &rules {
            each(rule, |group, resource, verb| {
                assert!(![group, resource, verb].contains(&"*"));
                assert!(resource != "secrets", "{verb} on all secrets");
                assert!(!["escalate", "bind", "impersonate"].contains(&verb));
            });
        }
        rules = namespace_rules();
        for rule in &rules {
            each(rule, |group, resource, verb| assert!(![group, resource, verb].contains(&"*")));
        }
    }

    #[test]
    fn those_who_edit_write_policies_and_nothing_that_says_what_a_workload_is() {
        let roles = aggregated_roles();
        let edit = roles[1]["rules"].as_array().unwrap();
        assert!(allows(edit, "ursamesh.io", "trafficpermissions", "create"));
        for not in ["meshes", "dataplanes", "zoneingresses", "controlplanes", "zones"] {
            assert!(!allows(edit, "ursamesh.io", not, "create"), "{not}");
        }
    }
}
