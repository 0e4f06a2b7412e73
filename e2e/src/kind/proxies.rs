//! Proxies of pods, and signals to their processes. The tests' clusters run on this machine.

use std::collections::BTreeSet;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{Kind, SYSTEM, json};
use crate::vm::docker;

/// The container of the proxy: of a sidecar, and of an ingress.
const CONTAINERS: [&str; 2] = ["ursa-dp", "ursa-ingress"];

/// The proxy of a pod.
#[derive(Debug)]
pub struct Proxy {
    /// The pod's name.
    pub pod: String,
    /// How often its container was started anew.
    pub restarts: u64,
    /// Whether the kubelet says that it serves.
    pub ready: bool,
    /// The pod's address.
    pub address: String,
    container: String,
}

/// The proxies of the pods of a namespace with these labels, ordered by the pod's name.
pub async fn proxies(namespace: &str, selector: &str) -> anyhow::Result<Vec<Proxy>> {
    let pods = json(&["--namespace", namespace, "get", "pods", "--selector", selector]).await?;
    let pods = pods["items"].as_array().cloned().unwrap_or_default();
    let mut found = pods.iter().map(proxy).collect::<anyhow::Result<Vec<Proxy>>>()?;
    found.sort_by(|a, b| a.pod.cmp(&b.pod));
    anyhow::ensure!(!found.is_empty(), "{namespace} has no pods with {selector}");
    Ok(found)
}

/// The pods, by their addresses, among which the node of a cluster distributes connections to a Service of the system's now:
/// kube-proxy hears of a pod after the kubelet has said that it is ready, and of its end after it has ended.
pub async fn distributed_to(cluster: &str, service: &str) -> anyhow::Result<BTreeSet<String>> {
    let node = format!("{cluster}-control-plane");
    let rules = docker(&["exec", &node, "iptables-save", "--table", "nat"], None).await?;
    let of_service = format!("\"{SYSTEM}/{service}:");
    let rules = rules.lines().filter(|rule| rule.contains(&of_service));
    let destinations = rules.filter_map(|rule| rule.split_once("--to-destination ")?.1.rsplit_once(':'));
    Ok(destinations.map(|(address, _)| address.to_owned()).collect())
}

fn proxy(pod: &Value) -> anyhow::Result<Proxy> {
    let of = |kind: &str| pod["status"][kind].as_array().cloned().unwrap_or_default();
    let mut statuses = of("initContainerStatuses").into_iter().chain(of("containerStatuses"));
    let sidecar =
        statuses.find(|status| CONTAINERS.iter().any(|name| status["name"] == *name)).context("no proxy")?;
    let id = sidecar["containerID"].as_str().and_then(|id| id.split_once("://")).context("no id")?.1;
    Ok(Proxy {
        pod: pod["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        restarts: sidecar["restartCount"].as_u64().unwrap_or_default(),
        ready: sidecar["ready"] == true,
        address: pod["status"]["podIP"].as_str().unwrap_or_default().to_owned(),
        container: id.to_owned(),
    })
}

impl Proxy {
    /// Ends all its processes at once, as if there were no memory left.
    pub fn kill(&self) -> anyhow::Result<()> {
        let processes = processes(&self.container, |_| true);
        anyhow::ensure!(!processes.is_empty(), "no process in container {}", self.container);
        for pid in processes {
            match kill(pid, Signal::SIGKILL) {
                // With the first process of a container all others end.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Stops its Envoy, as long as what is returned lives.
    pub fn stop(&self) -> anyhow::Result<Stopped> {
        let envoy = processes(&self.container, |name| name == "envoy");
        let [pid] = envoy.as_slice() else {
            anyhow::bail!("not one Envoy in container {}: {envoy:?}", self.container);
        };
        kill(*pid, Signal::SIGSTOP)?;
        Ok(Stopped(*pid))
    }
}

/// An Envoy that is stopped as long as the value lives.
#[derive(Debug)]
pub struct Stopped(Pid);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

impl Kind {
    /// Stops the Envoys of every second pod of a Deployment of the tests; the pods' names with it.
    pub async fn stop_half(&self, deployment: &str) -> anyhow::Result<(Vec<Stopped>, Vec<String>)> {
        let all = proxies(&self.name, &format!("app={deployment}")).await?;
        let half = all.into_iter().step_by(2);
        let stopped = half.map(|proxy| Ok((proxy.stop()?, proxy.pod))).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(stopped.into_iter().unzip())
    }
}

/// The processes of a container that have such a name.
fn processes(container: &str, wanted: impl Fn(&str) -> bool) -> Vec<Pid> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|process| process.file_name().to_str()?.parse::<i32>().ok());
    let is_it = |pid: &i32| {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        read("cgroup").contains(container) && wanted(read("comm").trim())
    };
    pids.filter(is_it).map(Pid::from_raw).collect()
}
