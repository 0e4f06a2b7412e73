//! Goldens: a namespace and a pod as the API server sends them; out comes the pod with its sidecar, or why it stays as it
//! is, or why it is refused.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ursa-inject --test golden` rewrites the outputs.
//! Invariant: the patch between both, applied to the input, gives the output; injecting the output changes nothing.

use std::path::Path;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ursa_inject::{Outcome, Settings, Unchanged, inject};

type Error = Box<dyn std::error::Error>;

datatest_stable::harness! {
    { test = golden, root = "testdata", pattern = r"\.in\.yaml$" },
    { test = every_output_has_an_input, root = "testdata", pattern = r"\.out\.yaml$" },
}

/// The first document.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    #[serde(rename = "kind")]
    _kind: CaseKind,
    /// One sentence: why the case exists.
    why: String,
    /// What differs from the settings below.
    #[serde(default)]
    settings: serde_json::Map<String, Value>,
    /// Fields of the pod that no type here knows: those of newer releases of Kubernetes.
    #[serde(default)]
    unknown: Vec<String>,
}

#[derive(Deserialize)]
enum CaseKind {
    Case,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Output {
    Refused(String),
    Unchanged(String),
    #[serde(untagged)]
    Pod(Value),
}

fn golden(path: &Path) -> Result<(), Error> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(path)?)?;
    let [case, namespace, pod] =
        <[Value; 3]>::try_from(documents).map_err(|_| "a Case, a Namespace and a Pod are needed")?;
    let case: Case = serde_json::from_value(case)?;
    if case.why.is_empty() {
        return Err("the first document says why the case exists".into());
    }
    let (settings, namespace) = (settings(&case)?, strict::<Namespace>(&namespace, &[])?);
    strict::<Pod>(&pod, &case.unknown)?;
    let output = match inject(&pod, &namespace, &settings) {
        Ok(Outcome::Unchanged(why)) => Output::Unchanged(why.to_string()),
        Ok(Outcome::Patched(patched)) => {
            let mut applied = pod.clone();
            json_patch::patch(&mut applied, &json_patch::diff(&pod, &patched))?;
            if applied != patched {
                return Err("the patch does not give the pod".into());
            }
            let again = inject(&patched, &namespace, &settings)?;
            if again != Outcome::Unchanged(Unchanged::AlreadyInjected) {
                return Err(format!("injected again it is {again:?}").into());
            }
            Output::Pod(patched)
        }
        Err(refusal) => Output::Refused(refusal.to_string()),
    };
    let expected = path.to_string_lossy().replace(".in.yaml", ".out.yaml");
    compare(Path::new(&expected), &serde_saphyr::to_string(&output)?)
}

fn every_output_has_an_input(path: &Path) -> Result<(), Error> {
    let input = path.to_string_lossy().replace(".out.yaml", ".in.yaml");
    Path::new(&input).exists().then_some(()).ok_or_else(|| format!("{input} is missing").into())
}

fn settings(case: &Case) -> Result<Settings, Error> {
    let mut settings = json!({
        "image": "registry.example/ursa-dp:0.1.0",
        "controlPlane": {
            "address": "https://ursa.ursa-system.svc:5678",
            "caPem": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        },
    });
    json_patch::merge(&mut settings, &Value::Object(case.settings.clone()));
    let settings: Settings = serde_json::from_value(settings)?;
    settings.check()?;
    Ok(settings)
}

/// Reads a document whose unknown fields are exactly these.
fn strict<T: DeserializeOwned>(document: &Value, unknown: &[String]) -> Result<T, Error> {
    let mut found = Vec::new();
    let read = serde_ignored::deserialize(document, |path| found.push(path.to_string()))?;
    // What is optional shows as a step of its own: `spec.?.containers`.
    let mut found: Vec<String> = found.iter().map(|path| path.replace(".?", "")).collect();
    found.sort();
    if found == unknown { Ok(read) } else { Err(format!("unknown fields: {found:?}").into()) }
}

fn compare(path: &Path, actual: &str) -> Result<(), Error> {
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
