//! The command lines of the demo's processes.
//!
//! Invariant: no secret is in one; tokens are in files that only their owner can read.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::folders::Folders;
use crate::process::{OnExit, Plan};
use crate::programs::Programs;
use crate::resources::Workload;
use crate::topology::{ControlPlane, Redis, Zone, port};

pub(super) struct Plans<'a> {
    pub(super) folders: &'a Folders,
    pub(super) programs: &'a Programs,
}

pub(super) fn control_plane_name(plane: &ControlPlane) -> String {
    format!("cp-{}", plane.place)
}

pub(super) fn demo_app_name(zone: &Zone) -> String {
    format!("demo-app-{}", zone.name)
}

pub(super) fn agent_name(workload: &Workload) -> String {
    format!("dp-{}", workload.name)
}

/// What a control plane is in the demo.
pub(super) enum Mode<'a> {
    Global,
    /// A zone of this global, with the token that global has made for it.
    Zone {
        global: &'a ControlPlane,
        token: &'a str,
    },
}

macro_rules! args {
    ($($arg:expr),* $(,)?) => { vec![$(OsString::from($arg)),*] };
}

impl Plans<'_> {
    /// Where a control plane keeps what it knows.
    pub(super) fn store(&self, plane: &ControlPlane) -> PathBuf {
        self.plane_folder(plane).join("store.redb")
    }

    /// Where a control plane writes its admin token.
    pub(super) fn admin_token(&self, plane: &ControlPlane) -> PathBuf {
        self.plane_folder(plane).join("admin-token")
    }

    /// The authority by which clients know a control plane.
    fn authority(&self, plane: &ControlPlane) -> PathBuf {
        self.plane_folder(plane).join("tls/ca.pem")
    }

    fn plane_folder(&self, plane: &ControlPlane) -> PathBuf {
        self.folders.state().join("data").join(control_plane_name(plane))
    }

    /// Writes the zone's token, too.
    pub(super) fn control_plane(&self, plane: &ControlPlane, mode: &Mode<'_>) -> anyhow::Result<Plan> {
        let name = control_plane_name(plane);
        let at = |port: u16| plane.at(port).to_string();
        let mut args = args![
            "run",
            "--data-dir",
            self.folders.data(&name)?,
            "--api-http",
            at(port::API_HTTP),
            "--api-https",
            at(port::API_HTTPS),
            "--agent-address",
            at(port::AGENTS),
            "--diagnostics-address",
            at(port::DIAGNOSTICS),
        ];
        args.extend(match mode {
            Mode::Global => args!["--mode", "global", "--sync-address", at(port::SYNC)],
            Mode::Zone { global, token } => args![
                "--mode",
                "zone",
                "--zone",
                &plane.place,
                "--global-address",
                format!("https://{}", global.at(port::SYNC)),
                "--global-ca-file",
                self.authority(global),
                "--zone-token-file",
                self.folders.write(&format!("data/{name}.token"), token, 0o600)?,
            ],
        });
        Ok(self.plan(name, self.programs.ursa_cp.clone(), args, OnExit::Report))
    }

    pub(super) fn redis(&self, redis: &Redis) -> anyhow::Result<Plan> {
        let name = &redis.name;
        let args = args![
            "--bind",
            redis.server().ip().to_string(),
            "--port",
            redis.server().port().to_string(),
            "--save", // nothing: each run starts empty
            "",
            "--appendonly",
            "no",
            "--dir",
            self.folders.data(name)?,
        ];
        Ok(self.plan(name.clone(), self.programs.redis_server.clone(), args, OnExit::Report))
    }

    pub(super) fn demo_app(&self, zone: &Zone) -> Plan {
        let args = args![
            "app",
            "--listen",
            zone.app().to_string(),
            "--redis",
            zone.app_to_redis().to_string(),
            "--zone",
            &zone.name,
        ];
        self.plan(demo_app_name(zone), self.programs.ursa_demo.clone(), args, OnExit::Report)
    }

    /// Writes the workload's resource and token, too.
    pub(super) fn agent(
        &self,
        plane: &ControlPlane,
        workload: &Workload,
        token: &str,
    ) -> anyhow::Result<Plan> {
        let name = agent_name(workload);
        let data = self.folders.data(&name)?;
        // YAML is a superset of JSON: the file is what `ursactl apply` would take, too.
        let resource =
            serde_json::to_string_pretty(&workload.resource).context("cannot encode the resource")?;
        let resource = self.folders.write(&format!("data/{name}.yaml"), &format!("{resource}\n"), 0o600)?;
        let token = self.folders.write(&format!("data/{name}.token"), token, 0o600)?;
        let args = args![
            "run",
            "--proxy-type",
            workload.role.proxy_type(),
            "--dataplane-file",
            resource,
            "--token-file",
            token,
            "--cp-address",
            format!("https://{}", plane.at(port::AGENTS)),
            "--ca-file",
            self.authority(plane),
            "--data-dir",
            data,
            "--run-dir",
            self.folders.sockets(&name),
            "--envoy",
            &self.programs.envoy,
            "--concurrency", // several proxies share this machine
            "1",
            "--drain-time", // within the time that the demo gives agents to end
            "2s",
        ];
        Ok(self.plan(name, self.programs.ursa_dp.clone(), args, OnExit::Restart))
    }

    fn plan(&self, name: String, program: PathBuf, args: Vec<OsString>, on_exit: OnExit) -> Plan {
        Plan { log: self.folders.log(&name), name, program, args, on_exit }
    }
}
