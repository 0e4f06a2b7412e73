//! The agent's process, with folders of its own.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::net::UnixStream;

use crate::plane::{Plane, TOKEN};
use crate::wait::eventually;

/// The real Envoy.
pub(crate) fn envoy() -> PathBuf {
    let path = std::env::var_os("URSA_ENVOY").map_or_else(
        || {
            let cache = std::env::var_os("URSA_CACHE").map_or_else(
                || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/ursa"),
                PathBuf::from,
            );
            cache.join("envoy/1.40.0/envoy")
        },
        PathBuf::from,
    );
    assert!(path.is_file(), "no Envoy at {}: run `make tools`, or set URSA_ENVOY", path.display());
    path
}

pub(crate) const DATAPLANE: &str = "
apiVersion: ursamesh.io/v1alpha1
kind: Dataplane
metadata: {name: web-1}
spec:
  networking:
    address: 127.0.0.1
    inbound: []
";

/// An agent, running or not.
pub(crate) struct Agent {
    pub(crate) folder: TempDir,
    address: String,
    child: Option<Child>,
    drain_time: &'static str,
    run_dir: PathBuf,
    more: Vec<String>,
}

impl Agent {
    /// Set up for this control plane, not started.
    pub(crate) fn new(plane: &Plane, dataplane: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("udp").tempdir().unwrap();
        fs::write(folder.path().join("dataplane.yaml"), dataplane).unwrap();
        fs::write(folder.path().join("token"), TOKEN).unwrap();
        fs::write(folder.path().join("ca.pem"), plane.ca_pem()).unwrap();
        let run_dir = folder.path().join("run");
        let address = format!("https://{}", plane.address);
        Self { folder, address, child: None, drain_time: "1s", run_dir, more: Vec::new() }
    }

    pub(crate) fn start(plane: &Plane) -> Self {
        let mut agent = Self::new(plane, DATAPLANE);
        agent.run();
        agent
    }

    pub(crate) fn with_drain_time(mut self, drain_time: &'static str) -> Self {
        self.drain_time = drain_time;
        self
    }

    /// Talks to the control plane at another address.
    pub(crate) fn at(mut self, address: std::net::SocketAddr) -> Self {
        self.address = format!("https://{address}");
        self
    }

    /// Gets more arguments.
    pub(crate) fn with(mut self, more: &[&str]) -> Self {
        self.more.extend(more.iter().copied().map(str::to_owned));
        self
    }

    /// Uses another run folder.
    pub(crate) fn in_run_dir(mut self, run_dir: PathBuf) -> Self {
        self.run_dir = run_dir;
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ursa-dp"));
        command
            .arg("run")
            .arg("--dataplane-file")
            .arg(self.path("dataplane.yaml"))
            .arg("--token-file")
            .arg(self.path("token"))
            .args(["--cp-address", &self.address])
            .arg("--ca-file")
            .arg(self.path("ca.pem"))
            .arg("--data-dir")
            .arg(self.path("data"))
            .arg("--run-dir")
            .arg(&self.run_dir)
            .arg("--envoy")
            .arg(envoy())
            .args([
                "--concurrency",
                "1",
                "--drain-time",
                self.drain_time,
                "--log-level",
                "info,ursa_dp=debug",
            ])
            .args(&self.more)
            .stdin(Stdio::null());
        command
    }

    /// What asks its Envoy for this.
    pub(crate) fn admin_command(&self, path: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ursa-dp"));
        command.arg("admin").arg("--run-dir").arg(&self.run_dir).arg(path).stdin(Stdio::null());
        command
    }

    /// Starts (again).
    pub(crate) fn run(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.command();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.as_ref().expect("it runs").id()).unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// The agent's Envoy, once there is one that has started up.
    pub(crate) async fn envoy(&self) -> Pid {
        let agent = self.pid();
        eventually("Envoy runs", async || {
            children(agent).into_iter().find(|pid| {
                fs::read(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|line| line.starts_with(envoy().as_os_str().as_encoded_bytes()))
            })
        })
        .await
    }

    /// Kills the agent without warning.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.child.take().expect("it runs").wait().unwrap();
    }

    /// Waits for the agent's end.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let child = std::sync::Mutex::new(self.child.take().expect("it runs"));
        eventually("the agent ends", async || child.lock().unwrap().try_wait().unwrap()).await
    }

    /// Asks Envoy's administration interface.
    pub(crate) async fn admin(&self, path: &str) -> Option<String> {
        let stream = UnixStream::connect(self.path("run/admin.sock")).await.ok()?;
        ursa_dp::http1::request(stream, "GET", "admin", path).await.ok().map(|response| response.body)
    }
}

fn children(parent: Pid) -> Vec<Pid> {
    let stat = |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let parent_of = |stat: String| stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<i32>().ok();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| stat(name).and_then(parent_of) == Some(parent.as_raw()))
        .filter_map(|name| name.parse().ok().map(Pid::from_raw))
        .collect()
}

/// Waits until a process has ended (one that nobody has waited for counts as ended).
pub(crate) async fn is_gone(pid: Pid) {
    eventually(&format!("process {pid} ends"), async || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let gone = stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'));
        gone.then_some(())
    })
    .await;
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the agent's log\n{}---", self.log());
        }
    }
}
