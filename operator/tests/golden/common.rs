//! What the goldens of all controllers share.
//!
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
use ursa_operator::control_plane::observe::Rollout;
use ursa_operator::control_plane::plan::Condition;

pub(crate) type Error = Box<dyn std::error::Error>;

/// A Deployment.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Seen {
    replicas: i32,
    total: i32,
    updated: i32,
    available: i32,
    /// Whether it was up as a whole once.
    #[serde(default)]
    complete: bool,
    stuck: Option<String>,
}

impl Seen {
    pub(crate) fn rollout(seen: Option<&Self>) -> Option<Rollout> {
        seen.map(|seen| Rollout {
            replicas: seen.replicas,
            total: seen.total,
            updated: seen.updated,
            available: seen.available,
            observed: true,
            complete: seen.complete,
            stuck: seen.stuck.clone(),
        })
    }
}

/// Conditions as a status has them, without times.
pub(crate) fn conditions(found: &[Condition]) -> Vec<Value> {
    let condition =
        |c: &Condition| json!({"type": c.name, "status": c.status, "reason": c.reason, "message": c.message});
    found.iter().map(condition).collect()
}

/// All objects and the status, as a golden has them.
pub(crate) fn text_of(objects: &[Value], status: &Value) -> Result<String, Error> {
    let mut text = String::new();
    for object in objects {
        known(object)?;
        writeln!(text, "{}---", serde_saphyr::to_string(&ordered(object))?)?;
    }
    Ok(text + &serde_saphyr::to_string(&ordered(status))?)
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

pub(crate) fn compare(input: &Path, actual: &str) -> Result<(), Error> {
    let path = PathBuf::from(input.to_string_lossy().replace(".in.yaml", ".out.yaml"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return Ok(std::fs::write(&path, actual)?);
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if expected == actual {
        return Ok(());
    }
    let diff = similar::TextDiff::from_lines(&expected, actual);
    Err(format!("{} differs (UPDATE_GOLDEN=1 rewrites it):\n{}", path.display(), diff.unified_diff()).into())
}
