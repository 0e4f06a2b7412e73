//! The control plane of a cluster as the version before would run there, set up as that version's operator would.
//!
//! Invariant: with the value's end the operator of this version is back, also when a test fails, and upgrades it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::eventually;
use crate::kind::{SYSTEM, at, json, kubectl, run};
use crate::zones::cluster;

const OPERATOR: &str = "deployment/ursa-operator";
const CONTROL_PLANE: &str = "deployment/ursa-cp";
/// The schema that a control plane plays.
const SCHEMA: &str = "URSA_CP_SCHEMA";
/// How long Deployments may take.
const ROLLED: &str = "--timeout=120s";

/// A cluster whose operator is away.
#[derive(Debug)]
pub struct Older {
    kubeconfig: PathBuf,
    operators: u64,
}

impl Drop for Older {
    fn drop(&mut self) {
        let replicas = format!("--replicas={}", self.operators);
        let mut kubectl = Command::new("kubectl");
        kubectl.env("KUBECONFIG", &self.kubeconfig).stdin(Stdio::null()).stdout(Stdio::null());
        match kubectl.args(["--namespace", SYSTEM, "scale", OPERATOR, &replicas]).status() {
            Ok(status) if status.success() => {}
            failed => println!("the operator does not come back: {failed:?}"),
        }
    }
}

impl Older {
    /// Brings a cluster's control plane to an older schema, one replica after the other.
    pub async fn start(name: &str, schema: u32) -> anyhow::Result<Self> {
        let kubeconfig = cluster(name).await?;
        let started = async {
            let operator = json(&["--namespace", SYSTEM, "get", OPERATOR]).await?;
            let operators = operator["spec"]["replicas"].as_u64().filter(|count| *count > 0);
            let operators = operators.with_context(|| format!("no operator: {}", operator["spec"]))?;
            // Made before it goes, so that it always comes back.
            let older = Self { kubeconfig: kubeconfig.clone(), operators };
            kubectl(&["--namespace", SYSTEM, "scale", OPERATOR, "--replicas=0"]).await?;
            let gone = ["--for=delete", "pod", "--selector", "app.kubernetes.io/name=ursa-operator", ROLLED];
            kubectl(&[&["--namespace", SYSTEM, "wait"], &gone[..]].concat()).await?;
            set_schema(schema).await?;
            rolled().await?;
            Ok(older)
        };
        at(&kubeconfig, started).await
    }
}

/// Waits until the operator of a cluster is there and has brought its control plane to this version.
pub async fn upgraded(name: &str) -> anyhow::Result<()> {
    let is_ours = async {
        eventually(&format!("the operator upgrades {name}"), Duration::from_mins(1), async || {
            let found = json(&["--namespace", SYSTEM, "get", CONTROL_PLANE]).await?;
            let variables = &found["spec"]["template"]["spec"]["containers"][0]["env"];
            anyhow::ensure!(!variables.to_string().contains(SCHEMA), "{variables}");
            Ok(())
        })
        .await?;
        rolled().await
    };
    at(&cluster(name).await?, is_ours).await
}

async fn rolled() -> anyhow::Result<()> {
    kubectl(&["--namespace", SYSTEM, "rollout", "status", CONTROL_PLANE, ROLLED]).await.map(drop)
}

/// As the operator applies it, so that it is the operator's to take back.
async fn set_schema(schema: u32) -> anyhow::Result<()> {
    let mut found = json(&["--namespace", SYSTEM, "get", CONTROL_PLANE]).await?;
    let variables = found["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut();
    variables.context("no variables")?.push(json!({"name": SCHEMA, "value": schema.to_string()}));
    let meta = &found["metadata"];
    let kept = ["name", "namespace", "labels", "ownerReferences"];
    let kept: serde_json::Map<String, Value> =
        kept.iter().map(|field| ((*field).to_owned(), meta[field].clone())).collect();
    let wanted = json!({
        "apiVersion": found["apiVersion"], "kind": found["kind"], "metadata": kept, "spec": found["spec"],
    });
    let apply =
        ["apply", "--server-side", "--force-conflicts", "--field-manager=ursa-operator", "--filename=-"];
    run("kubectl", &apply, Some(&wanted.to_string())).await.map(drop)
}
