//! Brings a whole demo up, step by step, and ends it.
//!
//! Invariant: [`Demo::end`] leaves no process, whichever step it interrupts.

mod plans;
mod wait;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use reqwest::{Client, Method};

use crate::api::{self, Api};
use crate::app;
use crate::endpoints::{self, Endpoints};
use crate::folders::Folders;
use crate::process::{Plan, Process, Tell};
use crate::programs::Programs;
use crate::resources::{self, MESH, Workload};
use crate::topology::{ControlPlane, Redis, Topology, Zone, port};
use plans::{Mode, Plans};
pub use wait::until;

/// For a control plane to be ready, and for a demo-app to answer through the mesh.
const START: Duration = Duration::from_secs(30);
/// For a server on this machine to accept connections.
const LISTEN: Duration = Duration::from_secs(10);
/// For agents to drain, then for the rest to end, before what is left is killed: together well below 10 s.
const DRAIN: Duration = Duration::from_secs(4);
const REST: Duration = Duration::from_secs(3);

/// What both `up` and `check` take.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Where everything is written; what an earlier demo has left there is removed first.
    #[arg(long, default_value = "target/demo")]
    pub state_dir: PathBuf,
    /// The Envoy binary [default: as URSA_ENVOY says, else in PATH].
    #[arg(long)]
    pub envoy: Option<PathBuf>,
    /// Shifts all addresses from 127.Z to 127.(Z + this), so that several demos run side by side: 10, 20, … 240.
    #[arg(long, default_value_t = 0)]
    pub base: u8,
    /// Set by the Makefile: a SIGINT that only make gets ends the demo too.
    #[arg(long, hide = true)]
    pub under_make: bool,
}

/// A demo that is starting or running.
pub struct Demo {
    topology: Topology,
    folders: Folders,
    programs: Programs,
    tell: Tell,
    client: Client,
    agents: Vec<Process>,
    others: Vec<Process>,
}

impl Demo {
    /// Prepares the folders and checks that all that it takes is there; starts nothing yet.
    pub fn prepare(options: &Options, tell: Tell) -> anyhow::Result<Self> {
        ensure!(
            options.base.is_multiple_of(10) && options.base <= 240,
            "--base {}: must be 0, 10, 20, … 240",
            options.base
        );
        let topology = Topology::talk(options.base);
        let programs = Programs::find(options.envoy.as_deref())?;
        for (address, what) in topology.listeners() {
            free(address)
                .with_context(|| format!("{address}, for the {what}, is taken: does another demo run?"))?;
        }
        let folders = Folders::prepare(&options.state_dir)?;
        let client = api::client()?;
        Ok(Self { topology, folders, programs, tell, client, agents: Vec::new(), others: Vec::new() })
    }

    /// Starts everything; returns when each demo-app answers through the mesh and `endpoints.json` is written.
    pub async fn bring_up(&mut self) -> anyhow::Result<()> {
        let from = Instant::now();
        let zones = self.topology.zones.clone();
        self.applications(&zones)?;
        self.control_planes(&zones).await?;
        for zone in &zones {
            self.applications_answer(zone).await?;
            for workload in
                [resources::redis(&zone.redis()), resources::demo_app(zone), resources::ingress(zone)]
            {
                self.agent(zone, &workload).await?;
            }
            self.tell(&format!("zone {}: redis, demo-app and the proxies start", zone.name));
        }
        for zone in &zones {
            self.reaches_redis(zone).await?;
        }
        let content =
            serde_json::to_string_pretty(&self.endpoints()).context("cannot encode the endpoints")?;
        self.folders.write(endpoints::FILE, &format!("{content}\n"), 0o644)?;
        self.tell(&format!("all is up after {:.1} s", from.elapsed().as_secs_f32()));
        Ok(())
    }

    /// Ends everything: the agents drain first, then the rest ends, then what is left is killed. Takes at most 10 s.
    pub async fn end(mut self) {
        end_all(&mut self.agents, DRAIN, &self.tell).await;
        end_all(&mut self.others, REST, &self.tell).await;
        self.folders.clean_up();
    }

    /// The zones and addresses.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Starts the zone's second Redis with its proxy; returns when its proxy serves.
    pub async fn second_redis(&mut self, zone: &Zone) -> anyhow::Result<Redis> {
        let redis = zone.second_redis();
        let plan = self.plans().redis(&redis)?;
        let process = self.start(plan)?;
        self.others.push(process);
        self.redis_answers(&redis).await?;
        let workload = resources::redis(&redis);
        self.agent(zone, &workload).await?;
        let process = self.process(&plans::agent_name(&workload))?;
        let insight = format!("/meshes/{MESH}/dataplanes/{}/insight", workload.name);
        until(START, "its proxy has no configuration", process, async || {
            let insight = self.api(&zone.control_plane())?.send(Method::GET, &insight, None).await?;
            ensure!(insight["acknowledged"].as_u64() > Some(0), "{insight}");
            Ok(())
        })
        .await?;
        Ok(redis)
    }

    /// Where it can be reached.
    pub fn endpoints(&self) -> Endpoints {
        Endpoints::of(&self.topology, self.plans().admin_token(&self.topology.global))
    }

    /// The folder of the processes' logs.
    pub fn logs(&self) -> PathBuf {
        self.folders.logs()
    }

    /// The programs that it uses.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The file in which a zone's control plane keeps what it knows, its keys too.
    pub fn store(&self, zone: &Zone) -> PathBuf {
        self.plans().store(&zone.control_plane())
    }

    /// Writes a private file into the state folder.
    pub fn write(&self, name: &str, content: &str) -> anyhow::Result<PathBuf> {
        self.folders.write(name, content, 0o600)
    }

    /// The API of a control plane.
    pub fn api(&self, plane: &ControlPlane) -> anyhow::Result<Api> {
        Api::open(&plane.api(), &self.plans().admin_token(plane))
    }

    /// A client for the demo's addresses.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A process by its name: `cp-global`, `cp-ZONE`, `redis-ZONE`, `demo-app-ZONE`, `dp-redis-ZONE`, `dp-demo-app-ZONE`,
    /// `dp-ingress-ZONE`.
    pub fn process(&self, name: &str) -> anyhow::Result<&Process> {
        let mut all = self.agents.iter().chain(&self.others);
        all.find(|process| process.name() == name).with_context(|| format!("the demo has no process {name}"))
    }

    fn tell(&self, line: &str) {
        (self.tell)(line);
    }

    fn plans(&self) -> Plans<'_> {
        Plans { folders: &self.folders, programs: &self.programs }
    }

    fn start(&mut self, plan: Plan) -> anyhow::Result<Process> {
        Process::start(plan, &self.programs.ursa_demo, self.tell.clone())
    }

    /// Global first: it makes the zones' tokens. Then the zones, side by side; each gets the mesh by sync.
    async fn control_planes(&mut self, zones: &[Zone]) -> anyhow::Result<()> {
        let global = &self.topology.global.clone();
        self.control_plane(global, &Mode::Global)?;
        self.ready(global).await?;
        for zone in zones {
            let token = self.api(global)?.zone_token(&zone.name).await?;
            self.control_plane(&zone.control_plane(), &Mode::Zone { global, token: &token })?;
        }
        for zone in zones {
            self.ready(&zone.control_plane()).await?;
        }
        Ok(())
    }

    fn control_plane(&mut self, plane: &ControlPlane, mode: &Mode<'_>) -> anyhow::Result<()> {
        let plan = self.plans().control_plane(plane, mode)?;
        let process = self.start(plan)?;
        self.others.push(process);
        Ok(())
    }

    async fn ready(&self, plane: &ControlPlane) -> anyhow::Result<()> {
        let process = self.process(&plans::control_plane_name(plane))?;
        let ready = format!("http://{}/readyz", plane.at(port::DIAGNOSTICS));
        until(START, "the control plane is not ready", process, async || {
            let status = self.client.get(&ready).send().await?.status();
            ensure!(status.is_success(), "{ready} answers {status}");
            self.api(plane)?.send(Method::GET, &format!("/meshes/{MESH}"), None).await?;
            Ok(())
        })
        .await?;
        self.tell(&format!("control plane {} is up at {}", plane.place, plane.api()));
        Ok(())
    }

    fn applications(&mut self, zones: &[Zone]) -> anyhow::Result<()> {
        for zone in zones {
            for plan in [self.plans().redis(&zone.redis())?, self.plans().demo_app(zone)] {
                let process = self.start(plan)?;
                self.others.push(process);
            }
        }
        Ok(())
    }

    async fn applications_answer(&self, zone: &Zone) -> anyhow::Result<()> {
        self.redis_answers(&zone.redis()).await?;
        let process = self.process(&plans::demo_app_name(zone))?;
        let health = format!("http://{}/healthz", zone.app());
        until(LISTEN, "demo-app does not answer", process, async || {
            self.client.get(&health).send().await?.error_for_status()?;
            Ok(())
        })
        .await
    }

    /// Waits for Redis, and writes its name into it.
    async fn redis_answers(&self, redis: &Redis) -> anyhow::Result<()> {
        let process = self.process(&redis.name)?;
        until(LISTEN, "redis does not answer", process, async || {
            app::call(redis.server(), &[&["SET", "zone", &redis.zone]], Duration::from_secs(1)).await?;
            Ok(())
        })
        .await
    }

    async fn agent(&mut self, zone: &Zone, workload: &Workload) -> anyhow::Result<()> {
        let plane = zone.control_plane();
        let token = self.api(&plane)?.agent_token(workload.role, &workload.name).await?;
        let plan = self.plans().agent(&plane, workload, &token)?;
        let process = self.start(plan)?;
        self.agents.push(process);
        Ok(())
    }

    async fn reaches_redis(&self, zone: &Zone) -> anyhow::Result<()> {
        let process = self.process(&plans::agent_name(&resources::demo_app(zone)))?;
        let counter = format!("http://{}/counter", zone.app());
        until(START, "demo-app does not reach redis through the mesh", process, async || {
            let response = self.client.get(&counter).send().await?;
            let status = response.status();
            ensure!(status.is_success(), "{status}: {}", response.text().await?);
            Ok(())
        })
        .await?;
        self.tell(&format!("zone {}: demo-app reaches redis through the mesh", zone.name));
        Ok(())
    }
}

/// Asks all to end, waits, kills those that have not, and waits for them to be gone.
async fn end_all(processes: &mut [Process], patience: Duration, tell: &Tell) {
    for process in &*processes {
        process.ask_to_end();
    }
    let joined = async {
        for process in &mut *processes {
            process.join().await;
        }
    };
    if tokio::time::timeout(patience, joined).await.is_ok() {
        return;
    }
    for process in processes.iter_mut().filter(|process| !process.is_gone()) {
        tell(&format!("! {} has not ended within {} s and is killed", process.name(), patience.as_secs()));
        process.kill();
        process.join().await;
    }
}

fn free(address: SocketAddr) -> std::io::Result<()> {
    TcpListener::bind(address).map(drop)
}
