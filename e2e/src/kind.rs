//! A mesh of pods on the tests' cluster: Ursa installed as a user would, and a namespace and mesh of each test's own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::eventually;

mod manifests;
mod proxies;
mod running;
mod usage;

pub use manifests::{deployment, server, service};
pub use proxies::{Proxy, Stopped, distributed_to, proxies};
pub use running::Running;
pub use usage::{Usage, usage};

/// Where Ursa itself is.
pub const SYSTEM: &str = "ursa-system";

/// How long pods may take to be ready.
const STARTED: &str = "120s";
/// A change takes effect within this time.
pub const SOON: Duration = Duration::from_secs(10);

static INSTALLED: OnceCell<()> = OnceCell::const_new();

tokio::task_local! {
    /// The kubeconfig of the cluster that is meant; else that of the environment.
    static KUBECONFIG: PathBuf;
}

/// Everything in the future that asks a cluster asks that of this kubeconfig. Tasks that it spawns do not.
pub async fn at<T>(kubeconfig: &Path, future: impl Future<Output = T>) -> T {
    KUBECONFIG.scope(kubeconfig.to_owned(), future).await
}

/// A command to the cluster that is meant.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    if let Ok(file) = KUBECONFIG.try_with(Clone::clone) {
        command.env("KUBECONFIG", file);
    }
    command
}

/// A namespace whose pods get sidecars, in a mesh of its own.
#[derive(Debug)]
pub struct Kind {
    /// The namespace and the mesh.
    pub name: String,
}

/// Runs a test in a namespace and a mesh of its own; if it fails, what is there is written below `target/e2e/`.
pub async fn with(test: &str, body: impl AsyncFnOnce(&Kind) -> anyhow::Result<()>) -> anyhow::Result<()> {
    install().await?;
    let kind = Kind::make(test).await?;
    let result = body(&kind).await;
    match &result {
        Ok(()) => kind.end().await?,
        Err(error) => {
            let bundle = kind.keep_evidence("").await;
            println!("{error:#}\nevidence: {}", bundle.display());
        }
    }
    result
}

/// `kubectl` with these arguments: what it prints.
pub async fn kubectl(arguments: &[&str]) -> anyhow::Result<String> {
    run("kubectl", arguments, None).await
}

/// `kubectl apply --server-side` of documents.
pub async fn apply(yaml: &str) -> anyhow::Result<String> {
    let arguments = ["apply", "--server-side", "--force-conflicts", "--filename", "-"];
    run("kubectl", &arguments, Some(yaml)).await
}

pub(crate) async fn run(program: &str, arguments: &[&str], input: Option<&str>) -> anyhow::Result<String> {
    let mut child = command(program)
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    anyhow::ensure!(
        output.status.success(),
        "{program} {}: {}{}",
        arguments.join(" "),
        text(&output.stderr),
        text(&output.stdout)
    );
    Ok(text(&output.stdout))
}

/// The full name of an image of this build.
pub fn image(name: &str) -> anyhow::Result<String> {
    let variable =
        |name: &str| std::env::var(name).with_context(|| format!("{name} is not set; see `make test`"));
    Ok(format!("{}{name}:{}", variable("URSA_E2E_IMAGES")?, variable("URSA_E2E_TAG")?))
}

/// What `ursactl` prints.
pub async fn ursactl(arguments: &[&str]) -> anyhow::Result<String> {
    let program = crate::binary("ursactl")?;
    run(&program.display().to_string(), arguments, None).await
}

/// Installs Ursa as its README says, once; an older build's is upgraded.
pub async fn install() -> anyhow::Result<()> {
    INSTALLED.get_or_try_init(install_now).await.copied()
}

async fn install_now() -> anyhow::Result<()> {
    install_operator().await?;
    install_control_plane(&[]).await
}

/// Installs the operator of this build.
pub async fn install_operator() -> anyhow::Result<()> {
    let (ours, dataplane) = (image("ursa")?, image("ursa-dp")?);
    let images = ["--image", &ours, "--dataplane-image", &dataplane];
    let operator = ursactl(&[&["install", "operator"], &images[..]].concat()).await?;
    apply(&operator).await?;
    let deployment = "deployment/ursa-operator";
    kubectl(&["--namespace", SYSTEM, "rollout", "status", deployment, "--timeout", STARTED]).await.map(drop)
}

/// Installs a control plane with these arguments of `ursactl install control-plane`, and waits until it is ready.
pub async fn install_control_plane(arguments: &[&str]) -> anyhow::Result<()> {
    apply(&ursactl(&[&["install", "control-plane"], arguments].concat()).await?).await?;
    let ours = image("ursa")?;
    eventually("the ControlPlane is ready in this build's version", Duration::from_mins(2), async || {
        let cp: Value = json(&["--namespace", SYSTEM, "get", "controlplane", "ursa"]).await?;
        anyhow::ensure!(condition(&cp, "Ready").as_deref() == Some("True"), "{}", cp["status"]);
        for part in ["ursa-cp", "ursa-webhook"] {
            let deployment = json(&["--namespace", SYSTEM, "get", "deployment", part]).await?;
            let running = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
            anyhow::ensure!(*running == ours.as_str(), "{part} runs {running}");
            let (spec, status) = (&deployment["spec"], &deployment["status"]);
            anyhow::ensure!(
                status["updatedReplicas"] == spec["replicas"] && status["replicas"] == spec["replicas"]
            );
            anyhow::ensure!(status["availableReplicas"] == spec["replicas"]);
        }
        Ok(())
    })
    .await
}

/// `kubectl … --output json`.
pub async fn json(arguments: &[&str]) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&kubectl(&[arguments, &["--output", "json"]].concat()).await?)?)
}

/// The status of a condition.
pub fn condition(object: &Value, name: &str) -> Option<String> {
    whole_condition(object, name)?["status"].as_str().map(str::to_owned)
}

/// A condition with its reason and message.
pub fn whole_condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == name)
}

impl Kind {
    /// For a test of this run; nothing is made yet.
    pub fn named(test: &str) -> Self {
        Self { name: format!("{test}-{:05x}", std::process::id() & 0xf_ffff) }
    }

    async fn make(test: &str) -> anyhow::Result<Self> {
        let kind = Self::named(test);
        kind.mesh("").await?;
        kind.namespace().await?;
        Ok(kind)
    }

    /// Makes the namespace, whose pods get sidecars of the mesh of the same name.
    pub async fn namespace(&self) -> anyhow::Result<()> {
        let name = &self.name;
        apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{ursamesh.io/sidecar-injection: enabled}}, annotations: {{ursamesh.io/mesh: {name}}}}}}}"
        ))
        .await
        .map(drop)
    }

    /// Writes the mesh; `spec`: in YAML's flow style without the outer braces, such as `mtls: {…}`.
    pub async fn mesh(&self, spec: &str) -> anyhow::Result<()> {
        let name = &self.name;
        apply(&format!(
            "{{apiVersion: ursamesh.io/v1alpha1, kind: Mesh, metadata: {{name: {name}}}, spec: {{{spec}}}}}"
        ))
        .await
        .map(drop)
    }

    /// Turns mutual TLS on.
    pub async fn mtls(&self, mode: &str) -> anyhow::Result<()> {
        self.mesh(&format!(
            "mtls: {{enabledBackend: ca, mode: {mode}, backends: [{{name: ca, type: Builtin}}]}}"
        ))
        .await
    }

    /// Writes a policy of the whole mesh; `spec` as in [`Self::mesh`].
    pub async fn policy(&self, kind: &str, name: &str, spec: &str) -> anyhow::Result<()> {
        let mesh = &self.name;
        apply(&format!(
            "{{apiVersion: ursamesh.io/v1alpha1, kind: {kind}, metadata: {{name: {mesh}.{name}, namespace: {SYSTEM}}}, spec: {{mesh: {mesh}, {spec}}}}}"
        ))
        .await
        .map(drop)
    }

    /// Deletes a policy of the whole mesh.
    pub async fn delete_policy(&self, kind: &str, name: &str) -> anyhow::Result<()> {
        kubectl(&["--namespace", SYSTEM, "delete", kind, &format!("{}.{name}", self.name)]).await.map(drop)
    }

    /// Lets a workload call another; `*`: anybody, or anything.
    pub async fn permit(&self, name: &str, source: &str, destination: &str) -> anyhow::Result<()> {
        let full = |service: &str| if service == "*" { "'*'".to_owned() } else { self.service(service) };
        self.judge(name, "Allow", &full(source), &full(destination)).await
    }

    /// Writes a TrafficPermission between services of these names.
    pub async fn judge(
        &self,
        name: &str,
        action: &str,
        source: &str,
        destination: &str,
    ) -> anyhow::Result<()> {
        self.policy(
            "TrafficPermission",
            name,
            &format!(
                "action: {action}, sources: [{{match: {{ursamesh.io/service: {source}}}}}], destinations: [{{match: {{ursamesh.io/service: {destination}}}}}]"
            ),
        )
        .await
    }

    /// What a workload of the namespace is called in the mesh.
    pub fn service(&self, workload: &str) -> String {
        format!("{workload}.{}", self.name)
    }

    /// `kubectl` in the namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        kubectl(&[&["--namespace", &self.name], arguments].concat()).await
    }

    /// Applies documents in the namespace; `IMAGE` in them is the image with the tests' program.
    pub async fn apply(&self, yaml: &str) -> anyhow::Result<String> {
        let yaml = yaml.replace("IMAGE", &image("ursa-e2e-app")?);
        let namespaced =
            ["--namespace", &self.name, "apply", "--server-side", "--force-conflicts", "--filename", "-"];
        run("kubectl", &namespaced, Some(&yaml)).await
    }

    /// A Deployment of one pod that runs the tests' program with these arguments, and waits until it is ready.
    pub async fn workload(&self, name: &str, arguments: &[&str]) -> anyhow::Result<()> {
        self.apply(&deployment(name, arguments, "", "")).await?;
        self.ready(name).await
    }

    /// A server: HTTP at 80 and 8080, one that speaks first at 9000, an echo at 9001; with its Service.
    pub async fn server(&self, name: &str) -> anyhow::Result<()> {
        self.apply(&server(name)).await?;
        self.ready(name).await
    }

    /// A pod that calls.
    pub async fn client(&self, name: &str) -> anyhow::Result<()> {
        self.workload(name, &["serve"]).await
    }

    /// A pod without a sidecar that calls.
    pub async fn stranger(&self, name: &str) -> anyhow::Result<()> {
        let labels = "ursamesh.io/sidecar-injection: disabled";
        self.apply(&deployment(name, &["serve"], labels, "")).await?;
        self.ready(name).await
    }

    /// Waits until all of a Deployment is of its newest state and ready.
    pub async fn ready(&self, deployment: &str) -> anyhow::Result<()> {
        let deployment = format!("deployment/{deployment}");
        self.kubectl(&["rollout", "status", &deployment, "--timeout", STARTED]).await.map(drop)
    }

    /// Runs the tests' program in a pod of a Deployment: what it printed.
    pub async fn exec(&self, deployment: &str, arguments: &[&str]) -> anyhow::Result<Value> {
        self.exec_program(deployment, "ursa-e2e-app", arguments).await
    }

    /// The same with another program of its image.
    pub async fn exec_program(
        &self,
        deployment: &str,
        program: &str,
        arguments: &[&str],
    ) -> anyhow::Result<Value> {
        let (deployment, program) = (format!("deployment/{deployment}"), format!("/usr/local/bin/{program}"));
        let command = ["exec", &deployment, "--container", "app", "--", &program];
        let said = self.kubectl(&[&command[..], arguments].concat()).await?;
        serde_json::from_str(said.trim()).with_context(|| format!("not JSON: {said}"))
    }

    /// Calls by HTTP: who answered, or why nobody did.
    pub async fn call(&self, from: &str, url: &str) -> anyhow::Result<Value> {
        self.exec(from, &["call", url]).await
    }

    /// The call is answered soon.
    pub async fn answered(&self, from: &str, url: &str) -> anyhow::Result<Value> {
        eventually(&format!("{from} is answered by {url}"), SOON, async || self.call(from, url).await).await
    }

    /// The call is answered soon, to a caller whose certificate the server's proxy has seen.
    pub async fn known(&self, from: &str, url: &str) -> anyhow::Result<Value> {
        eventually(&format!("{url} knows {from}"), SOON, async || {
            let answer = self.call(from, url).await?;
            let caller = answer["caller"].as_str().unwrap_or_default();
            anyhow::ensure!(caller.contains("URI=spiffe://"), "{answer}");
            Ok(answer)
        })
        .await
    }

    /// The call is refused soon.
    pub async fn refused(&self, from: &str, url: &str) -> anyhow::Result<()> {
        eventually(&format!("{from} is refused by {url}"), SOON, async || match self.call(from, url).await {
            Ok(answer) => Err(format!("answered: {answer}")),
            Err(_) => Ok(()),
        })
        .await
    }

    /// Starts the tests' program in a pod; it goes on until it is stopped.
    pub async fn start(&self, deployment: &str, arguments: &[&str]) -> anyhow::Result<Running> {
        let deployment = format!("deployment/{deployment}");
        let mut kubectl = command("kubectl");
        kubectl
            .args(["--namespace", &self.name, "exec", "--stdin", &deployment, "--container", "app", "--"])
            .arg("/usr/local/bin/ursa-e2e-app")
            .args(arguments);
        Running::start(&mut kubectl).await
    }

    /// Callers that never stop, from one workload to an address.
    pub async fn load(&self, from: &str, url: &str) -> anyhow::Result<Running> {
        self.start(from, &["load", url]).await
    }

    async fn end(self) -> anyhow::Result<()> {
        self.kubectl(&["delete", "namespace", &self.name, "--wait=false"]).await?;
        self.delete_mesh().await
    }

    /// Deletes the mesh, if it is still there, and its policies.
    pub async fn delete_mesh(&self) -> anyhow::Result<()> {
        for kind in ["trafficpermissions", "trafficroutes"] {
            let all = kubectl(&["--namespace", SYSTEM, "get", kind, "--output", "name"]).await?;
            let prefix = format!("/{}.", self.name);
            for name in all.lines().filter(|name| name.contains(&prefix)) {
                kubectl(&["--namespace", SYSTEM, "delete", name]).await?;
            }
        }
        kubectl(&["delete", "mesh", &self.name, "--ignore-not-found"]).await.map(drop)
    }

    /// Objects, events, logs and the configuration of each Envoy, of this cluster; the folder.
    pub async fn keep_evidence(&self, cluster: &str) -> PathBuf {
        let folder =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/e2e").join(&self.name).join(cluster);
        let _ = std::fs::create_dir_all(&folder);
        let keep = |file: &str, text: anyhow::Result<String>| {
            let _ = std::fs::write(folder.join(file), text.unwrap_or_else(|error| format!("{error:#}")));
        };
        let all = "pods,services,endpointslices,deployments,statefulsets,jobs,cronjobs,replicasets";
        keep("objects.yaml", self.kubectl(&["get", all, "--output", "yaml"]).await);
        keep("events.txt", self.kubectl(&["get", "events", "--sort-by", ".lastTimestamp"]).await);
        let ours = "meshes,trafficpermissions,trafficroutes,zones,zoneinsights,meshzones,zoneingresses,controlplanes";
        keep("ursa.yaml", kubectl(&["get", ours, "--all-namespaces", "--output", "yaml"]).await);
        for part in ["ursa-operator", "ursa-cp", "ursa-webhook", "ursa-ingress"] {
            let selector = format!("app.kubernetes.io/name={part}");
            let logs = ["--namespace", SYSTEM, "logs", "--selector", &selector, "--prefix", "--tail", "2000"];
            keep(&format!("{part}.log"), kubectl(&logs).await);
        }
        let pods = self.kubectl(&["get", "pods", "--output", "name"]).await.unwrap_or_default();
        for pod in pods.lines() {
            let name = pod.trim_start_matches("pod/");
            keep(&format!("{name}.log"), self.kubectl(&["logs", pod, "--all-containers", "--prefix"]).await);
            let envoy = ["exec", pod, "--container", "ursa-dp", "--", "/usr/local/bin/ursa-dp", "admin"];
            for (what, path) in [("envoy.json", "/config_dump?include_eds"), ("clusters", "/clusters")] {
                keep(&format!("{name}.{what}"), self.kubectl(&[&envoy[..], &[path]].concat()).await);
            }
        }
        folder
    }
}
