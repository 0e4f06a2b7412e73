//! Proxies that are stopped for a while: their processes get SIGSTOP. The tests' clusters run on this machine.

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::Kind;

/// The Envoys of some pods, stopped as long as it lives.
#[derive(Debug)]
pub struct Stopped(Vec<Pid>);

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill(*pid, Signal::SIGCONT);
        }
    }
}

impl Kind {
    /// Stops the Envoys of the pods of a Deployment of the tests; the pods' names with it.
    pub async fn stop_proxies(&self, deployment: &str) -> anyhow::Result<(Stopped, Vec<String>)> {
        let selector = format!("app={deployment}");
        let pods = self.kubectl(&["get", "pods", "--selector", &selector, "--output", "json"]).await?;
        let pods: Value = serde_json::from_str(&pods)?;
        let (mut stopped, mut names) = (Stopped(Vec::new()), Vec::new());
        for pod in pods["items"].as_array().into_iter().flatten() {
            let of = |kind: &str| pod["status"][kind].as_array().cloned().unwrap_or_default();
            let mut statuses = of("initContainerStatuses").into_iter().chain(of("containerStatuses"));
            let sidecar = statuses.find(|status| status["name"] == "ursa-dp").context("no sidecar")?;
            let id = sidecar["containerID"].as_str().and_then(|id| id.split_once("://")).context("no id")?.1;
            let pid = envoy(id).with_context(|| format!("no Envoy in container {id}"))?;
            kill(pid, Signal::SIGSTOP)?;
            stopped.0.push(pid);
            names.push(pod["metadata"]["name"].as_str().unwrap_or_default().to_owned());
        }
        anyhow::ensure!(!names.is_empty(), "{deployment} has no pods");
        Ok((stopped, names))
    }
}

/// The Envoy that runs in a container.
fn envoy(container: &str) -> Option<Pid> {
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|process| process.file_name().to_str()?.parse::<i32>().ok());
    let is_it = |pid: &i32| {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        read("comm").trim() == "envoy" && read("cgroup").contains(container)
    };
    pids.into_iter().find(is_it).map(Pid::from_raw)
}
