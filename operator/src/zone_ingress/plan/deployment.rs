//! The Deployment: an agent with its Envoy in each pod, restricted by Pod Security, spread over nodes and zones.

use serde_json::{Value, json};
use ursa_crds::INGRESS_PORT;
use ursa_inject::{PROXY_UID, agent};

use super::Source;
use crate::names::INJECTION;
use crate::pods::{self, field, resources, variable};
use crate::zone_ingress::observe::Access;

/// While the pod is about to go, others still send to it what they began to send before they heard of it.
const GONE_BY_SECONDS: i64 = 5;
/// How long connections may take to finish then.
const DRAIN_SECONDS: i64 = 15;
/// Both, what the agent itself needs, and some more.
const GRACE_SECONDS: i64 = 30;
/// Envoy's worker threads.
const CONCURRENCY: u32 = 2;

pub(super) fn object(source: &Source<'_>, access: &Access) -> Value {
    let mut labels = json!(source.names.labels());
    if let Some(labels) = labels.as_object_mut() {
        labels.extend(source.selector.iter().map(|(key, value)| (key.clone(), json!(value))));
        // It is a proxy itself.
        labels.insert(INJECTION.to_owned(), json!("disabled"));
    }
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": source.meta(),
        "spec": {
            "replicas": source.spec.replicas(),
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": source.selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": labels}, "spec": pod(source, access)},
        },
    })
}

fn pod(source: &Source<'_>, access: &Access) -> Value {
    let spec = source.spec;
    let selector = json!(source.selector);
    let mut pod = json!({
        "serviceAccountName": source.names.object(),
        // The only token is the one for control planes.
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": PROXY_UID, "runAsGroup": PROXY_UID, "fsGroup": PROXY_UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "affinity": pods::affinity(&selector),
        "topologySpreadConstraints": pods::spread(&selector),
        "containers": [container(source, access)],
        "volumes": agent::volumes(),
    });
    if !access.pull_secrets.is_empty() {
        pod["imagePullSecrets"] = json!(access.pull_secrets);
    }
    if !spec.node_selector.is_empty() {
        pod["nodeSelector"] = json!(spec.node_selector);
    }
    if !spec.tolerations.is_empty() {
        pod["tolerations"] = json!(spec.tolerations);
    }
    pod
}

fn container(source: &Source<'_>, access: &Access) -> Value {
    let settings = &access.settings;
    let ready = |period: i64, failures: i64| {
        json!({
            "httpGet": {"path": "/ready", "port": agent::HEALTH_PORT}, "periodSeconds": period,
            "failureThreshold": failures, "timeoutSeconds": 2,
        })
    };
    let mut container = json!({
        // Not as a sidecar is called: it is no workload's.
        "name": "ursa-ingress",
        "image": settings.image,
        "command": [agent::PROGRAM, "run"],
        "env": [
            variable("URSA_DP_PROXY_TYPE", "ingress"),
            variable("URSA_DP_INGRESS_NAME", &source.names.name),
            field("URSA_DP_POD_NAME", "metadata.name"),
            field("URSA_DP_POD_NAMESPACE", "metadata.namespace"),
            variable("URSA_DP_TOKEN_FILE", agent::TOKEN_FILE),
            variable("URSA_DP_CP_ADDRESS", &settings.control_plane.address),
            variable("URSA_DP_CA_PEM", &settings.control_plane.ca_pem),
            variable("URSA_DP_DATA_DIR", agent::DATA_DIR),
            variable("URSA_DP_RUN_DIR", agent::RUN_DIR),
            variable("URSA_DP_ENVOY", "/usr/local/bin/envoy"),
            variable("URSA_DP_LOG_LEVEL", &settings.log_level),
            variable("URSA_DP_HEALTH_ADDRESS", &format!("0.0.0.0:{}", agent::HEALTH_PORT)),
            variable("URSA_DP_CONCURRENCY", &CONCURRENCY.to_string()),
            variable("URSA_DP_DRAIN_TIME", &format!("{DRAIN_SECONDS}s")),
        ],
        "ports": [
            {"name": "tls-ingress", "containerPort": INGRESS_PORT, "protocol": "TCP"},
            {"name": "health", "containerPort": agent::HEALTH_PORT, "protocol": "TCP"},
        ],
        "resources": resources(&source.spec.resources, "100m", "128Mi"),
        // Ready means that Envoy serves. The control plane may come after the pod.
        "startupProbe": ready(1, 600),
        "readinessProbe": ready(2, 2),
        "lifecycle": {"preStop": {"sleep": {"seconds": GONE_BY_SECONDS}}},
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": agent::mounts(),
    });
    if let Some(policy) = &settings.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    container
}
