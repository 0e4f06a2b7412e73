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
use crate::topology::{Zone, port};

pub(super) struct Plans<'a> {
    pub(super) folders: &'a Folders,
    pub(super) programs: &'a Programs,
}

pub(super) fn control_plane_name(zone: &Zone) -> String {
    format!("cp-{}", zone.name)
}

pub(super) fn redis_name(zone: &Zone) -> String {
    format!("redis-{}", zone.name)
}

pub(super) fn demo_app_name(zone: &Zone) -> String {
    format!("demo-app-{}", zone.name)
}

pub(super) fn agent_name(workload: &Workload) -> String {
    format!("dp-{}", workload.name)
}

macro_rules! args {
    ($($arg:expr),* $(,)?) => { vec![$(OsString::from($arg)),*] };
}

impl Plans<'_> {
    /// Where the control plane of a zone, or the global one, writes its admin token.
    pub(super) fn admin_token(&self, place: &str) -> PathBuf {
        self.folders.state().join("data").join(format!("cp-{place}")).join("admin-token")
    }

    pub(super) fn control_plane(&self, zone: &Zone) -> anyhow::Result<Plan> {
        let name = control_plane_name(zone);
        let at = |port: u16| format!("{}:{port}", zone.control_plane());
        let args = args![
            "run",
            "--mode",
            "standalone",
            "--zone",
            &zone.name,
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
        Ok(self.plan(name, self.programs.ursa_cp.clone(), args, OnExit::Report))
    }

    pub(super) fn redis(&self, zone: &Zone) -> anyhow::Result<Plan> {
        let name = redis_name(zone);
        let args = args![
            "--bind",
            zone.redis().ip().to_string(),
            "--port",
            zone.redis().port().to_string(),
            "--save", // nothing: each run starts empty
            "",
            "--appendonly",
            "no",
            "--dir",
            self.folders.data(&name)?,
        ];
        Ok(self.plan(name, self.programs.redis_server.clone(), args, OnExit::Report))
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
    pub(super) fn agent(&self, zone: &Zone, workload: &Workload, token: &str) -> anyhow::Result<Plan> {
        let name = agent_name(workload);
        let data = self.folders.data(&name)?;
        // YAML is a superset of JSON: the file is what `ursactl apply` would take, too.
        let dataplane =
            serde_json::to_string_pretty(&workload.dataplane).context("cannot encode the dataplane")?;
        let dataplane = self.folders.write(&format!("data/{name}.yaml"), &format!("{dataplane}\n"), 0o600)?;
        let token = self.folders.write(&format!("data/{name}.token"), token, 0o600)?;
        let args = args![
            "run",
            "--dataplane-file",
            dataplane,
            "--token-file",
            token,
            "--cp-address",
            format!("https://{}:{}", zone.control_plane(), port::AGENTS),
            "--ca-file",
            self.folders.data(&control_plane_name(zone))?.join("tls/ca.pem"),
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
