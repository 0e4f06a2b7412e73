//! Virtual machines beside the clusters: each with systemd as its first process, and the built programs. Needs root, as the clusters
//! do.
//!
//! Invariant: a machine ends with the value; what its journal said stays below `target/e2e/` if it is asked for.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::hosts::Family;
use crate::kind::{Running, run};
use crate::{binary, envoy, eventually};

pub(crate) const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kind/vm");
/// What is installed on each.
const PROGRAMS: [&str; 5] = ["ursa-cp", "ursa-dp", "ursa-init", "ursactl", "ursa-e2e-app"];
/// The user that workloads run as.
const WORKLOAD: &str = "nobody";

/// A machine.
#[derive(Debug)]
pub struct Vm {
    /// The name, by which others do not know it.
    pub name: String,
    /// The IPv4 address, which it keeps.
    pub address: String,
    /// The IPv6 address, which it keeps.
    pub address_v6: String,
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = Command::new(SCRIPT)
            .args(["down", &self.name])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// `docker`, of the engine that runs the clusters: what it prints.
pub(crate) async fn docker(arguments: &[&str], input: Option<&str>) -> anyhow::Result<String> {
    run(SCRIPT, &[&["docker"], arguments].concat(), Some(input.unwrap_or_default())).await
}

impl Vm {
    /// Starts it.
    pub async fn start(name: &str) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        for program in PROGRAMS {
            files.push(format!("{}:/usr/local/bin/{program}", binary(program)?.display()));
        }
        files.push(format!("{}:/usr/local/bin/envoy", envoy()?.display()));
        files.push(format!("{}/../config/vm:/usr/local/share/ursa", env!("CARGO_MANIFEST_DIR")));
        let arguments: Vec<&str> = ["up", name].into_iter().chain(files.iter().map(String::as_str)).collect();
        // Ended by this value, also if it does not start.
        let mut vm = Self { name: name.to_owned(), address: String::new(), address_v6: String::new() };
        let addresses = run(SCRIPT, &arguments, None).await?;
        let (v4, v6) = addresses.trim().split_once(' ').with_context(|| addresses.clone())?;
        (vm.address, vm.address_v6) = (v4.to_owned(), v6.to_owned());
        Ok(vm)
    }

    /// Its address.
    pub fn address_of(&self, family: Family) -> &str {
        match family {
            Family::V4 => &self.address,
            Family::V6 => &self.address_v6,
        }
    }

    async fn exec(&self, user: &str, arguments: &[&str], input: Option<&str>) -> anyhow::Result<String> {
        let exec = ["exec", "--interactive", "--user", user, &self.name];
        docker(&[&exec[..], arguments].concat(), input).await
    }

    /// Runs lines of shell as root, which must succeed: what they print.
    pub async fn shell(&self, lines: &str) -> anyhow::Result<String> {
        self.exec("0", &["timeout", "100", "bash", "-euc", lines], None).await
    }

    /// Writes a file, for root only.
    pub async fn write(&self, path: &str, content: &str) -> anyhow::Result<()> {
        let write = ["bash", "-euc", "umask 077; mkdir -p \"$(dirname \"$0\")\"; cat >\"$0\"", path];
        self.exec("0", &write, Some(content)).await.map(drop)
    }

    /// Runs the tests' program as a workload: what it prints.
    pub async fn workload(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let command = ["timeout", "20", "/usr/local/bin/ursa-e2e-app"];
        let said = self.exec(WORKLOAD, &[&command[..], arguments].concat(), None).await?;
        serde_json::from_str(said.trim()).with_context(|| format!("not JSON: {said}"))
    }

    /// Starts the tests' program as a workload; it goes on until it is stopped.
    pub async fn start_workload(&self, arguments: &[&str]) -> anyhow::Result<Running> {
        let exec = ["docker", "exec", "--interactive", "--user", WORKLOAD, &self.name];
        let mut command = tokio::process::Command::new(SCRIPT);
        command.args(exec).arg("/usr/local/bin/ursa-e2e-app").args(arguments);
        Running::start(&mut command).await
    }

    /// Installs a program with the libraries that it needs.
    pub async fn install(&self, program: &Path) -> anyhow::Result<()> {
        let program = program.display().to_string();
        run(SCRIPT, &["install", &self.name, &program], None).await.map(drop)
    }

    /// Has an installed program run as a workload from now on, at each start of the machine, once the proxy serves.
    pub async fn service(&self, command: &str) -> anyhow::Result<()> {
        let unit = format!(
            "[Unit]\nAfter=ursa-dp.service\n[Service]\nUser={WORKLOAD}\nExecStart=/usr/local/bin/{command}\n\
             Restart=always\n[Install]\nWantedBy=multi-user.target\n"
        );
        self.write("/etc/systemd/system/app.service", &unit).await?;
        self.shell("chmod 644 /etc/systemd/system/app.service; systemctl enable --now app").await.map(drop)
    }

    /// Stops it, as if its power were cut after its services were told.
    pub async fn stop(&self) -> anyhow::Result<()> {
        docker(&["stop", &self.name], None).await.map(drop)
    }

    /// Starts it again.
    pub async fn boot(&self) -> anyhow::Result<()> {
        docker(&["start", &self.name], None).await?;
        eventually(&format!("{} is up", self.name), Duration::from_mins(1), async || {
            self.shell("systemctl is-active multi-user.target").await
        })
        .await
        .map(drop)
    }

    /// Writes its journal, and what Envoy has if it runs one, to this folder.
    pub async fn keep_evidence(&self, folder: &Path) -> PathBuf {
        let file = folder.join(format!("{}.journal", self.name));
        let said = "journalctl --no-pager --lines 3000; ss -tlnp; nft list ruleset";
        let envoy = "ursa-dp admin --run-dir /run/ursa-dp '/config_dump?include_eds'; ursa-dp admin --run-dir /run/ursa-dp /clusters";
        let _ = std::fs::create_dir_all(folder);
        for (file, lines) in [(&file, said), (&file.with_extension("envoy"), envoy)] {
            let said = self.shell(lines).await;
            let _ = std::fs::write(file, said.unwrap_or_else(|error| format!("{error:#}")));
        }
        file
    }
}
