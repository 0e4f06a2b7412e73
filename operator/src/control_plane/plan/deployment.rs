//! Deployments of control plane and webhook: restricted by Pod Security, spread over nodes and zones.

use serde_json::{Value, json};
use ursa_crds::ControlPlaneMode;

use super::{Source, service, settings};
use crate::names::{INJECTION, Part};
use crate::pods::{self, field, resources, variable};

/// The user of all programs in the image.
const USER: i64 = 65_532;
const TLS: &str = "/etc/ursa/tls";
const SETTINGS: &str = "/etc/ursa/settings";
const GLOBAL: &str = "/etc/ursa/global";
const DATA: &str = "/var/lib/ursa-cp";
/// Of files from Secrets: for the owner and the group (`fsGroup`) to read.
const MODE: i32 = 0o440;

/// What differs between the parts.
struct Program {
    replicas: i32,
    environment: Vec<Value>,
    volumes: Vec<Value>,
    mounts: Vec<Value>,
    resources: Value,
    grace_seconds: i64,
}

pub(super) fn object(source: &Source<'_>, part: Part) -> Value {
    let program = match part {
        Part::ControlPlane => control_plane(source),
        Part::Webhook => webhook(source),
    };
    let selector = source.names.selector(part);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": source.meta(&source.names.part(part)),
        "spec": {
            "replicas": program.replicas,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": pod_labels(source, part)}, "spec": pod(source, part, program, &selector)},
        },
    })
}

fn pod_labels(source: &Source<'_>, part: Part) -> Value {
    let mut labels = json!(source.names.labels());
    if let (Some(labels), Some(selector)) = (labels.as_object_mut(), source.names.selector(part).as_object())
    {
        labels.extend(selector.clone());
        // What makes sidecars cannot wait for one.
        labels.insert(INJECTION.to_owned(), json!("disabled"));
    }
    labels
}

fn pod(source: &Source<'_>, part: Part, program: Program, selector: &Value) -> Value {
    let spec = source.spec;
    let mut pod = json!({
        "serviceAccountName": source.names.part(part),
        "automountServiceAccountToken": true,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": program.grace_seconds,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "affinity": pods::affinity(selector),
        "topologySpreadConstraints": pods::spread(selector),
        "containers": [container(source, part, &program)],
        "volumes": program.volumes,
    });
    if !spec.image_pull_secrets.is_empty() {
        pod["imagePullSecrets"] = json!(spec.image_pull_secrets);
    }
    if !spec.node_selector.is_empty() {
        pod["nodeSelector"] = json!(spec.node_selector);
    }
    if !spec.tolerations.is_empty() {
        pod["tolerations"] = json!(spec.tolerations);
    }
    pod
}

fn container(source: &Source<'_>, part: Part, program: &Program) -> Value {
    let mut ports: Vec<Value> = service::ports(source, part)
        .into_iter()
        .map(|port| json!({"name": port.name, "containerPort": port.pod, "protocol": "TCP"}))
        .collect();
    ports.push(json!({"name": "diagnostics", "containerPort": service::DIAGNOSTICS, "protocol": "TCP"}));
    let probe = |path: &str, period: i32, failures: i32| {
        json!({
            "httpGet": {"path": path, "port": service::DIAGNOSTICS}, "periodSeconds": period,
            "failureThreshold": failures, "timeoutSeconds": 3,
        })
    };
    let mut container = json!({
        "name": part.program(),
        "image": source.image(),
        "command": [format!("/usr/local/bin/{}", part.program()), "run"],
        "env": program.environment,
        "ports": ports,
        "resources": program.resources,
        // Certificates may come after the pod: it starts anew until they are there.
        "startupProbe": probe("/healthz", 1, 120),
        "livenessProbe": probe("/healthz", 10, 3),
        "readinessProbe": probe("/readyz", 2, 2),
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": program.mounts,
    });
    if let Some(policy) = source.spec.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    container
}

fn control_plane(source: &Source<'_>) -> Program {
    let spec = source.spec;
    let mode = match spec.mode {
        ControlPlaneMode::Standalone => "standalone",
        ControlPlaneMode::Global => "global",
        ControlPlaneMode::Zone => "zone",
    };
    let mut program = Program {
        replicas: spec.replicas,
        environment: vec![variable("URSA_CP_MODE", mode)],
        volumes: vec![
            secret_volume("tls", &source.names.tls(Part::ControlPlane)),
            json!({"name": "data", "emptyDir": {}}),
        ],
        mounts: vec![mount("tls", TLS, true), mount("data", DATA, false)],
        resources: resources(&spec.resources, "100m", "128Mi"),
        grace_seconds: 30,
    };
    if let Some(zone) = spec.zone_name() {
        program.environment.push(variable("URSA_CP_ZONE", zone));
    }
    program.environment.extend([
        variable("URSA_CP_STORE", "kubernetes"),
        field("URSA_CP_NAMESPACE", "metadata.namespace"),
        variable("URSA_CP_DATA_DIR", &format!("{DATA}/data")),
        variable("URSA_CP_LOG", spec.log_level.as_str()),
        variable("URSA_CP_TLS_CERT_FILE", &format!("{TLS}/tls.crt")),
        variable("URSA_CP_TLS_KEY_FILE", &format!("{TLS}/tls.key")),
        variable("URSA_CP_TLS_CA_FILE", &format!("{TLS}/ca.crt")),
        variable("URSA_CP_TLS_SECRET", &source.names.tls(Part::ControlPlane)),
    ]);
    // Replicas reach each other one by one, and trust each other by the name that all share.
    program.environment.extend([
        field("URSA_CP_POD_IP", "status.podIP"),
        variable("URSA_CP_SERVICE_NAME", &source.names.host(Part::ControlPlane)),
        // Under these its API answers.
        variable(
            "URSA_CP_TLS_NAMES",
            &super::certificate_names(spec, &source.names, Part::ControlPlane).join(","),
        ),
    ]);
    program.environment.push(variable("URSA_CP_CONTROL_PLANE", &source.names.name));
    if spec.mode == ControlPlaneMode::Zone {
        joined_to_global(source, &mut program);
    }
    program
}

/// How a zone reaches global: address, what its certificate is trusted by, and the zone's token.
fn joined_to_global(source: &Source<'_>, program: &mut Program) {
    let Some(zone) = &source.spec.zone else { return };
    let credential = zone.credential_secret_ref.as_ref().map(|reference| reference.name.as_str());
    let ca = zone.global_ca_secret_ref.as_ref().map(|reference| reference.name.as_str()).or(credential);
    program.environment.extend([
        variable("URSA_CP_GLOBAL_ADDRESS", zone.global_address.as_deref().unwrap_or_default()),
        variable("URSA_CP_GLOBAL_CA_FILE", &format!("{GLOBAL}/ca.crt")),
        variable("URSA_CP_ZONE_TOKEN_FILE", &format!("{GLOBAL}/token")),
    ]);
    let part = |name: Option<&str>, key: &str| json!({"secret": {"name": name.unwrap_or_default(), "items": [{"key": key, "path": key}]}});
    program.volumes.push(json!({
        "name": "global",
        "projected": {"defaultMode": MODE, "sources": [part(ca, "ca.crt"), part(credential, "token")]},
    }));
    program.mounts.push(mount("global", GLOBAL, true));
}

fn webhook(source: &Source<'_>) -> Program {
    let spec = &source.spec.webhook;
    let mut environment = vec![
        field("URSA_WEBHOOK_NAMESPACE", "metadata.namespace"),
        variable("URSA_WEBHOOK_LOG", source.spec.log_level.as_str()),
        variable("URSA_WEBHOOK_TLS_CERT_FILE", &format!("{TLS}/tls.crt")),
        variable("URSA_WEBHOOK_TLS_KEY_FILE", &format!("{TLS}/tls.key")),
        variable("URSA_WEBHOOK_SETTINGS_FILE", &format!("{SETTINGS}/{}", settings::FILE)),
    ];
    let global = source.spec.zone.as_ref().and_then(|zone| zone.global_address.as_deref());
    environment.extend(global.map(|address| variable("URSA_WEBHOOK_GLOBAL_ADDRESS", address)));
    Program {
        replicas: spec.replicas,
        environment,
        volumes: vec![
            secret_volume("tls", &source.names.tls(Part::Webhook)),
            json!({"name": "settings", "configMap": {"name": source.names.settings()}}),
        ],
        mounts: vec![mount("tls", TLS, true), mount("settings", SETTINGS, true)],
        resources: resources(&spec.resources, "50m", "64Mi"),
        grace_seconds: 30,
    }
}

fn secret_volume(name: &str, secret: &str) -> Value {
    json!({"name": name, "secret": {"secretName": secret, "defaultMode": MODE}})
}

fn mount(name: &str, path: &str, read_only: bool) -> Value {
    if read_only {
        return json!({"name": name, "mountPath": path, "readOnly": true});
    }
    json!({"name": name, "mountPath": path})
}
