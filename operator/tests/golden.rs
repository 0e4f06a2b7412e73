//! Goldens: a ControlPlane as a user writes it and what is seen of it; out come all objects and the status.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ursa-operator --test golden` rewrites the outputs.
//! Invariant: every object is what Kubernetes' own types read, so a misspelt field fails.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ursa_crds::{CertIssuer, ControlPlane};
use ursa_operator::certificates::{Authority, Pair};
use ursa_operator::control_plane::observe::{Observed, Rollout, Tls};
use ursa_operator::control_plane::plan::{Defaults, plan};

type Error = Box<dyn std::error::Error>;

datatest_stable::harness! {
    { test = golden, root = "testdata", pattern = r"\.in\.yaml$" },
    { test = every_output_has_an_input, root = "testdata", pattern = r"\.out\.yaml$" },
}

/// The first document: what is seen.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    kind: CaseKind,
    /// One sentence: why the case exists.
    why: String,
    control_plane: Option<Seen>,
    webhook: Option<Seen>,
    /// Whether a replica of the control plane leads.
    #[serde(default)]
    led: bool,
    /// Whether the API server asks the webhook already.
    #[serde(default)]
    configured: bool,
    /// Whether cert-manager has issued the certificates, where it is to.
    #[serde(default)]
    issued: bool,
}

#[derive(Deserialize)]
enum CaseKind {
    Case,
}

/// A Deployment.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Seen {
    replicas: i32,
    total: i32,
    updated: i32,
    available: i32,
    /// Whether it was up as a whole once.
    #[serde(default)]
    complete: bool,
    stuck: Option<String>,
}

fn golden(path: &Path) -> Result<(), Error> {
    let documents = ursa_crds::parse_documents(&std::fs::read(path)?)?;
    let [case, control_plane] = documents.try_into().map_err(|_| "a Case and a ControlPlane are needed")?;
    let case: Case = serde_json::from_value(case)?;
    let CaseKind::Case = case.kind;
    if case.why.is_empty() {
        return Err("the first document says why the case exists".into());
    }
    let control_plane: ControlPlane = serde_json::from_value(control_plane)?;
    let observed = observed(&case, &control_plane);
    let defaults = Defaults {
        image: "ursa:1.2.3".into(),
        dataplane_image: "ursa-dp:1.2.3".into(),
        operator_account: "ursa-operator".into(),
    };
    let found = plan(&control_plane, &observed, &defaults);
    if plan(&control_plane, &observed, &defaults) != found {
        return Err("equal inputs give different plans".into());
    }
    let mut text = String::new();
    for object in &found.objects {
        known(object)?;
        writeln!(text, "{}---", serde_saphyr::to_string(&ordered(object))?)?;
    }
    let conditions: Vec<Value> = found
        .status
        .conditions
        .iter()
        .chain(&found.status.connection)
        .map(|c| json!({"type": c.name, "status": c.status, "reason": c.reason, "message": c.message}))
        .collect();
    let status = json!({"status": {
        "conditions": conditions, "generation": found.status.generation, "version": found.status.version,
    }});
    text += &serde_saphyr::to_string(&ordered(&status))?;
    compare(&path.to_string_lossy().replace(".in.yaml", ".out.yaml").into(), &text)
}

fn every_output_has_an_input(path: &Path) -> Result<(), Error> {
    let input = path.to_string_lossy().replace(".out.yaml", ".in.yaml");
    Path::new(&input).exists().then_some(()).ok_or_else(|| format!("{input} is missing").into())
}

fn observed(case: &Case, control_plane: &ControlPlane) -> Observed {
    let rollout = |seen: &Option<Seen>| {
        seen.as_ref().map(|seen| Rollout {
            replicas: seen.replicas,
            total: seen.total,
            updated: seen.updated,
            available: seen.available,
            observed: true,
            complete: seen.complete,
            stuck: seen.stuck.clone(),
        })
    };
    let pair = |name: &str| Pair { certificate: format!("{name} certificate"), key: format!("{name} key") };
    let tls = match control_plane.spec.tls.issuer {
        CertIssuer::CertManager => {
            Tls::CertManager { ca: case.issued.then(|| "the issuer's bundle\n".to_owned()) }
        }
        CertIssuer::SelfSigned => Tls::SelfMade {
            authority: Authority { current: pair("authority"), next: None, bundle: "bundle\n".to_owned() },
            control_plane: pair("control plane"),
            webhook: pair("webhook"),
        },
    };
    Observed {
        namespace_uid: "00000000-0000-0000-0000-000000000000".to_owned(),
        control_plane: rollout(&case.control_plane),
        webhook: rollout(&case.webhook),
        led: case.led,
        configured: case.configured,
        tls,
    }
}

/// Fails if a field is none of Kubernetes'.
fn known(object: &Value) -> Result<(), Error> {
    fn read<K: DeserializeOwned + Serialize>(object: &Value) -> Result<Value, serde_json::Error> {
        serde_json::to_value(serde_json::from_value::<K>(object.clone())?)
    }
    let read = match object["kind"].as_str().unwrap_or_default() {
        "ServiceAccount" => read::<ServiceAccount>(object),
        "Secret" => read::<Secret>(object),
        "ConfigMap" => read::<ConfigMap>(object),
        "Service" => read::<Service>(object),
        "Deployment" => read::<Deployment>(object),
        "PodDisruptionBudget" => read::<PodDisruptionBudget>(object),
        "NetworkPolicy" => read::<NetworkPolicy>(object),
        "Role" => read::<Role>(object),
        "RoleBinding" => read::<RoleBinding>(object),
        "ClusterRole" => read::<ClusterRole>(object),
        "ClusterRoleBinding" => read::<ClusterRoleBinding>(object),
        "MutatingWebhookConfiguration" => read::<MutatingWebhookConfiguration>(object),
        "ValidatingWebhookConfiguration" => read::<ValidatingWebhookConfiguration>(object),
        "Certificate" => return Ok(()),
        kind => return Err(format!("{kind} is no kind of the list").into()),
    }?;
    if ordered(&read) == ordered(object) {
        return Ok(());
    }
    Err(format!("not all fields are Kubernetes':\n{object:#}\nis read as\n{read:#}").into())
}

/// With keys in order, whatever features serde_json has.
fn ordered(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let map: std::collections::BTreeMap<_, _> =
                map.iter().map(|(key, value)| (key.clone(), ordered(value))).collect();
            Value::Object(map.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(ordered).collect()),
        other => other.clone(),
    }
}

fn compare(path: &PathBuf, actual: &str) -> Result<(), Error> {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return Ok(std::fs::write(path, actual)?);
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    if expected == actual {
        return Ok(());
    }
    let diff = similar::TextDiff::from_lines(&expected, actual);
    Err(format!("{} differs (UPDATE_GOLDEN=1 rewrites it):\n{}", path.display(), diff.unified_diff()).into())
}
