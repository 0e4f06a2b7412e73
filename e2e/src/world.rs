//! A mesh of real processes for one test.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::{Addresses, Api, Process, binary, envoy, eventually};

/// How long a process may take to come up on a busy machine.
const START: Duration = Duration::from_secs(30);

/// A test's folder, addresses and run-time sockets.
#[derive(Debug)]
pub struct World {
    /// Loopback addresses.
    pub addresses: Addresses,
    /// What control planes speak that are made from now on, if it is not the newest schema.
    pub schema: Option<u32>,
    folder: PathBuf,
    sockets: TempDir,
}

impl World {
    /// For the test of this name; its files are in `target/e2e/<name>/`, emptied first.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let target =
            binary("ursa-cp")?.parent().and_then(Path::parent).context("target/PROFILE/ursa-cp")?.to_owned();
        let folder = target.join("e2e").join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("logs"))?;
        println!("logs: {}", folder.join("logs").display());
        Ok(Self {
            addresses: Addresses::take()?,
            schema: None,
            folder,
            sockets: tempfile::Builder::new().prefix("ursa-").tempdir()?,
        })
    }

    /// Where processes log.
    pub fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// A file or folder of the test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts a standalone control plane of this zone, at the first host of the zone's addresses.
    pub async fn standalone(&self, zone: &str) -> anyhow::Result<ControlPlane> {
        self.plane(&format!("cp-{zone}"), 1, &["--mode", "standalone", "--zone", zone]).await
    }

    /// The same with its store on the API server of a cluster, the test's namespace being the system's.
    pub async fn standalone_on(&self, cluster: &Cluster, zone: &str) -> anyhow::Result<ControlPlane> {
        let args = [
            "--mode",
            "standalone",
            "--zone",
            zone,
            "--store",
            "kubernetes",
            "--namespace",
            &cluster.namespace,
        ];
        self.plane(&format!("cp-{zone}"), 1, &args).await
    }

    /// Starts a global control plane.
    pub async fn global(&self) -> anyhow::Result<ControlPlane> {
        self.plane("cp-global", 0, &["--mode", "global"]).await
    }

    /// Starts the control plane of a zone, at the first host of the addresses of this number, with a token of global's.
    pub async fn zone(&self, global: &ControlPlane, zone: &str, number: u8) -> anyhow::Result<ControlPlane> {
        let token = self.path(&format!("zone-token-{zone}"));
        std::fs::write(&token, global.api()?.zone_token(zone).await?)?;
        let address = format!("https://{}", SocketAddr::new(global.host, 5685));
        let (token, ca) = (token.display().to_string(), global.data.join("tls/ca.pem").display().to_string());
        let args = [
            ["--mode", "zone"],
            ["--zone", zone],
            ["--global-address", &address],
            ["--global-ca-file", &ca],
            ["--zone-token-file", &token],
        ];
        self.plane(&format!("cp-{zone}"), number, &args.concat()).await
    }

    async fn plane(&self, name: &str, number: u8, args: &[&str]) -> anyhow::Result<ControlPlane> {
        let mut plane = ControlPlane {
            host: self.addresses.host(number, 1),
            data: self.path(name),
            logs: self.logs(),
            name: name.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            schema: self.schema,
            process: None,
        };
        plane.start().await?;
        Ok(plane)
    }

    /// Starts the ingress of a zone, at the second host of the addresses of this number.
    pub async fn ingress(&self, plane: &ControlPlane, number: u8) -> anyhow::Result<Agent> {
        let token = plane.api()?.ingress_token("ingress").await?;
        let resource = json!({
            "apiVersion": "ursamesh.io/v1alpha1",
            "kind": "ZoneIngress",
            "metadata": {"name": "ingress"},
            "spec": {"networking": {"address": self.addresses.host(number, 2), "port": 10001}},
        });
        self.start_agent(plane, &format!("ingress-{number}"), &resource, &token)
    }

    /// Starts the agent of a workload.
    pub async fn agent(&self, plane: &ControlPlane, workload: &Workload) -> anyhow::Result<Agent> {
        let Workload { mesh, name, .. } = workload;
        let token = plane.api()?.dataplane_token(mesh, name, &workload.services()).await?;
        self.agent_with(plane, workload, &token)
    }

    /// Starts the agent of a workload with this token.
    pub fn agent_with(
        &self,
        plane: &ControlPlane,
        workload: &Workload,
        token: &str,
    ) -> anyhow::Result<Agent> {
        self.start_agent(plane, &format!("{}-{}", workload.mesh, workload.name), &workload.resource(), token)
    }

    fn start_agent(
        &self,
        plane: &ControlPlane,
        name: &str,
        resource: &Value,
        token: &str,
    ) -> anyhow::Result<Agent> {
        let files = self.path(&format!("dp-{name}"));
        std::fs::create_dir_all(&files)?;
        std::fs::write(files.join("dataplane.yaml"), resource.to_string())?;
        std::fs::write(files.join("token"), token)?;
        let run = self.sockets.path().join(name);
        std::fs::create_dir_all(&run)?;
        let mut agent = Agent {
            name: format!("dp-{name}"),
            logs: self.logs(),
            files,
            run,
            control_plane: format!("https://{}", SocketAddr::new(plane.host, 5678)),
            ca: plane.data.join("tls/ca.pem"),
            process: None,
        };
        agent.start()?;
        Ok(agent)
    }
}

/// A control plane.
#[derive(Debug)]
pub struct ControlPlane {
    /// Where all its ports are.
    pub host: IpAddr,
    /// Its data folder.
    pub data: PathBuf,
    logs: PathBuf,
    name: String,
    args: Vec<String>,
    schema: Option<u32>,
    process: Option<Process>,
}

impl ControlPlane {
    /// Ends it, and starts it again as the version of this tree.
    pub async fn upgrade(&mut self) -> anyhow::Result<()> {
        self.become_version(None).await
    }

    /// The same as the version that had this schema.
    pub async fn downgrade(&mut self, schema: u32) -> anyhow::Result<()> {
        self.become_version(Some(schema)).await
    }

    async fn become_version(&mut self, schema: Option<u32>) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop()?;
        }
        self.schema = schema;
        self.start().await
    }

    /// Starts it, or starts it again, and waits until it is ready.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let at = |port| SocketAddr::new(self.host, port).to_string();
        let mut command = Command::new(binary("ursa-cp")?);
        command.arg("run").args(&self.args).arg("--data-dir").arg(&self.data);
        if let Some(schema) = self.schema {
            command.args(["--schema", &schema.to_string()]);
        }
        for (flag, port) in [
            ("--api-http", 5681),
            ("--api-https", 5682),
            ("--agent-address", 5678),
            ("--diagnostics-address", 5680),
            ("--sync-address", 5685),
        ] {
            command.args([flag, &at(port)]);
        }
        let mut process = Process::start(&self.name, &self.logs, command)?;
        let ready = format!("http://{}/readyz", at(5680));
        let client = reqwest::Client::builder().no_proxy().build()?;
        eventually(&format!("{} is ready or has ended", self.name), START, async || {
            if let Err(ended) = process.check() {
                return Ok(Err(ended));
            }
            client.get(&ready).send().await?.error_for_status()?;
            anyhow::Ok(Ok(()))
        })
        .await??;
        self.process = Some(process);
        Ok(())
    }

    /// Its REST API.
    pub fn api(&self) -> anyhow::Result<Api> {
        Api::new(&format!("http://{}", SocketAddr::new(self.host, 5681)), &self.data.join("admin-token"))
    }

    /// What `ursactl` prints when it is asked this; it must succeed.
    pub fn ursactl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(binary("ursactl")?);
        command.args(arguments).args(["--api", &format!("http://{}", SocketAddr::new(self.host, 5681))]);
        let output = command.arg("--token-file").arg(self.data.join("admin-token")).output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "ursactl {arguments:?}: {error}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Its process.
    pub fn process(&mut self) -> anyhow::Result<&mut Process> {
        self.process.as_mut().context("the control plane was not started")
    }
}

/// An agent with its Envoy.
#[derive(Debug)]
pub struct Agent {
    name: String,
    logs: PathBuf,
    /// Token, resource and data.
    pub files: PathBuf,
    run: PathBuf,
    control_plane: String,
    ca: PathBuf,
    process: Option<Process>,
}

impl Agent {
    /// Starts it, or starts it again.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(binary("ursa-dp")?);
        command.arg("run");
        command.args(["--cp-address", &self.control_plane]);
        command.arg("--ca-file").arg(&self.ca);
        command.arg("--dataplane-file").arg(self.files.join("dataplane.yaml"));
        command.arg("--token-file").arg(self.files.join("token"));
        command.arg("--data-dir").arg(self.files.join("data"));
        command.arg("--run-dir").arg(&self.run);
        command.arg("--envoy").arg(envoy()?);
        self.process = Some(Process::start(&self.name, &self.logs, command)?);
        Ok(())
    }

    /// Its process.
    pub fn process(&mut self) -> anyhow::Result<&mut Process> {
        self.process.as_mut().context("the agent was not started")
    }
}

/// A workload: what its `Dataplane` says.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The mesh.
    pub mesh: String,
    /// The dataplane's name.
    pub name: String,
    /// The dataplane's address.
    pub address: IpAddr,
    inbounds: Vec<Value>,
    outbounds: Vec<Value>,
}

impl Workload {
    /// A workload in mesh `default`.
    pub fn new(name: &str, address: IpAddr) -> Self {
        Self {
            mesh: "default".into(),
            name: name.into(),
            address,
            inbounds: Vec::new(),
            outbounds: Vec::new(),
        }
    }

    /// In another mesh.
    #[must_use]
    pub fn in_mesh(mut self, mesh: &str) -> Self {
        mesh.clone_into(&mut self.mesh);
        self
    }

    /// Serves: the proxy on `port`, the application on `application`; further tags as (key, value).
    #[must_use]
    pub fn serves(
        mut self,
        service: &str,
        port: u16,
        application: SocketAddr,
        tags: &[(&str, &str)],
    ) -> Self {
        let mut all = json!({"ursamesh.io/service": service});
        for (key, value) in tags {
            all[*key] = json!(value);
        }
        self.inbounds.push(json!({
            "port": port,
            "serviceAddress": application.ip(),
            "servicePort": application.port(),
            "tags": all,
        }));
        self
    }

    /// With a TCP readiness probe on the inbound that was added last.
    #[must_use]
    pub fn probed(mut self) -> Self {
        if let Some(inbound) = self.inbounds.last_mut() {
            inbound["readinessProbe"] = json!({"tcp": {}, "interval": "200ms", "timeout": "200ms"});
        }
        self
    }

    /// Calls a service at a port of its own address.
    #[must_use]
    pub fn calls(mut self, service: &str, port: u16) -> Self {
        self.outbounds.push(json!({
            "address": self.address,
            "port": port,
            "tags": {"ursamesh.io/service": service},
        }));
        self
    }

    fn services(&self) -> Vec<&str> {
        self.inbounds.iter().filter_map(|inbound| inbound["tags"]["ursamesh.io/service"].as_str()).collect()
    }

    fn resource(&self) -> Value {
        json!({
            "apiVersion": "ursamesh.io/v1alpha1",
            "kind": "Dataplane",
            "metadata": {"name": self.name},
            "spec": {
                "mesh": self.mesh,
                "networking": {"address": self.address, "inbound": self.inbounds, "outbound": self.outbounds},
            },
        })
    }
}
