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
use reqwest::Client;

use crate::api::{self, Api};
use crate::app;
use crate::endpoints::{self, Endpoints};
use crate::folders::Folders;
use crate::process::{Plan, Process, Tell};
use crate::programs::Programs;
use crate::resources::{self, MESH, Workload};
use crate::topology::{Topology, Zone, port};
use plans::Plans;
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
        let topology = Topology::standalone(options.base);
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
        ensure!(self.topology.global.is_none(), "a global control plane is not part of the demo yet");
        for zone in self.topology.zones.clone() {
            self.control_plane(&zone).await?;
            self.applications(&zone).await?;
            for workload in [resources::redis(&zone), resources::demo_app(&zone)] {
                self.agent(&zone, &workload).await?;
            }
        }
        for zone in &self.topology.zones {
            self.answers(zone).await?;
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

    /// Where it can be reached.
    pub fn endpoints(&self) -> Endpoints {
        let top = self.topology.zones.first().map_or("global", |zone| &zone.name);
        Endpoints::of(&self.topology, self.plans().admin_token(top))
    }

    /// The folder of the processes' logs.
    pub fn logs(&self) -> PathBuf {
        self.folders.logs()
    }

    /// The API of a zone's control plane.
    pub fn zone_api(&self, zone: &Zone) -> anyhow::Result<Api> {
        Api::open(&zone.api(), &self.plans().admin_token(&zone.name))
    }

    /// A client for the demo's addresses.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A process by its name: `cp-ZONE`, `redis-ZONE`, `demo-app-ZONE`, `dp-redis-ZONE`, `dp-demo-app-ZONE`.
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

    async fn control_plane(&mut self, zone: &Zone) -> anyhow::Result<()> {
        let plan = self.plans().control_plane(zone)?;
        let process = self.start(plan)?;
        self.others.push(process);
        let process = self.process(&plans::control_plane_name(zone))?;
        let ready = format!("http://{}:{}/readyz", zone.control_plane(), port::DIAGNOSTICS);
        until(START, "the control plane is not ready", process, async || {
            let status = self.client.get(&ready).send().await?.status();
            ensure!(status.is_success(), "{ready} answers {status}");
            Ok(())
        })
        .await?;
        self.tell(&format!("zone {}: control plane is up at {}", zone.name, zone.api()));
        Ok(())
    }

    async fn applications(&mut self, zone: &Zone) -> anyhow::Result<()> {
        for plan in [self.plans().redis(zone)?, self.plans().demo_app(zone)] {
            let process = self.start(plan)?;
            self.others.push(process);
        }
        let process = self.process(&plans::redis_name(zone))?;
        until(LISTEN, "redis does not answer", process, async || {
            app::call(zone.redis(), &[&["SET", "zone", &zone.name]], Duration::from_secs(1)).await?;
            Ok(())
        })
        .await?;
        let process = self.process(&plans::demo_app_name(zone))?;
        let health = format!("http://{}/healthz", zone.app());
        until(LISTEN, "demo-app does not answer", process, async || {
            self.client.get(&health).send().await?.error_for_status()?;
            Ok(())
        })
        .await?;
        self.tell(&format!("zone {}: redis and demo-app run", zone.name));
        Ok(())
    }

    async fn agent(&mut self, zone: &Zone, workload: &Workload) -> anyhow::Result<()> {
        let token = self.zone_api(zone)?.dataplane_token(MESH, &workload.name, workload.service).await?;
        let plan = self.plans().agent(zone, workload, &token)?;
        let process = self.start(plan)?;
        self.agents.push(process);
        self.tell(&format!("zone {}: proxy of {} starts", zone.name, workload.service));
        Ok(())
    }

    async fn answers(&self, zone: &Zone) -> anyhow::Result<()> {
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
