//! A child process with its log and its supervision.
//!
//! Each runs in a process group of its own, so that Ctrl-C reaches only the demo, which then ends them in order; and
//! under `ursa-demo exec`, so that the kernel ends them if the demo is killed. The kernel takes the *thread* that
//! started a child for its parent: start the demo on a thread that lives as long as it does.
//! Invariant: when [`Process::join`] has returned, the process and its group are gone.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Time between the death of a process and its next start.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Takes lines for the person who watches.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// What happens when a process ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// It is told, and started again after a second.
    Restart,
    /// It is told, and stays down until [`Process::start_again`].
    Report,
}

/// How to start a process.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name in messages and of its log.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// What it prints is appended here.
    pub log: PathBuf,
    /// What happens when it ends by itself.
    pub on_exit: OnExit,
}

/// A supervised process.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    pid: watch::Receiver<Option<Pid>>,
    again: Arc<Notify>,
    end: CancellationToken,
    kill: CancellationToken,
    supervisor: JoinHandle<()>,
}

impl Process {
    /// Starts the process under the wrapper (this very program, `ursa-demo`).
    pub fn start(plan: Plan, wrapper: &Path, tell: Tell) -> anyhow::Result<Self> {
        let child = spawn(&plan, wrapper)?;
        let (sender, pid) = watch::channel(pid_of(&child));
        let (again, end, kill) =
            (Arc::new(Notify::new()), CancellationToken::new(), CancellationToken::new());
        let (name, log) = (plan.name.clone(), plan.log.clone());
        let supervisor = Supervisor {
            plan,
            wrapper: wrapper.to_owned(),
            tell,
            pid: sender,
            again: again.clone(),
            end: end.clone(),
            kill: kill.clone(),
        };
        let supervisor = tokio::spawn(supervisor.run(child));
        Ok(Self { name, log, pid, again, end, kill, supervisor })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.pid.borrow().map(Pid::as_raw)
    }

    /// Kills it as a crash would. What follows is up to [`OnExit`].
    pub fn crash(&self) -> anyhow::Result<()> {
        let pid = self.pid.borrow().with_context(|| format!("{} does not run", self.name))?;
        kill(pid, Signal::SIGKILL).with_context(|| format!("cannot kill {}", self.name))
    }

    /// Starts it again after it has ended and was only reported.
    pub fn start_again(&self) {
        self.again.notify_one();
    }

    /// Asks it to end (SIGTERM) and not to be started again.
    pub fn ask_to_end(&self) {
        self.end.cancel();
    }

    /// Kills its process group if it has not ended.
    pub fn kill(&self) {
        self.kill.cancel();
    }

    /// Waits for it to be gone, after [`Self::ask_to_end`] or [`Self::kill`].
    pub async fn join(&mut self) {
        if let Err(error) = (&mut self.supervisor).await {
            tracing::error!(%error, process = self.name, "the supervisor failed");
        }
    }

    /// Whether it and its supervision have ended.
    pub fn is_gone(&self) -> bool {
        self.supervisor.is_finished()
    }

    /// Fails, with the end of its log, if it does not run.
    pub fn must_run(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.pid().is_some(), "{} has ended:\n{}", self.name, self.log_end());
        Ok(())
    }

    /// The last lines of its log, and where the rest is.
    pub fn log_end(&self) -> String {
        log_end(&self.log)
    }
}

fn log_end(log: &Path) -> String {
    const LINES: usize = 8;
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LINES)..].iter().map(|line| format!("    {line}\n"));
    format!("{}    (from {})", last.collect::<String>(), log.display())
}

struct Supervisor {
    plan: Plan,
    wrapper: PathBuf,
    tell: Tell,
    pid: watch::Sender<Option<Pid>>,
    again: Arc<Notify>,
    end: CancellationToken,
    kill: CancellationToken,
}

impl Supervisor {
    async fn run(self, mut child: Child) {
        loop {
            let Some(status) = self.until_exit(&mut child).await else { return };
            self.pid.send_replace(None);
            let name = &self.plan.name;
            let (then, wait) = match self.plan.on_exit {
                OnExit::Restart => ("it starts again", Some(BACK_OFF)),
                OnExit::Report => ("it stays down", None),
            };
            (self.tell)(&format!(
                "! {name} has ended ({status}); {then}. Its log: {}",
                self.plan.log.display()
            ));
            child = loop {
                tokio::select! {
                    () = self.end.cancelled() => return,
                    () = self.kill.cancelled() => return,
                    () = self.again.notified() => {}
                    () = tokio::time::sleep(wait.unwrap_or(BACK_OFF)), if wait.is_some() => {}
                }
                match spawn(&self.plan, &self.wrapper) {
                    Ok(child) => break child,
                    Err(error) => (self.tell)(&format!("! {error:#}")),
                }
            };
            self.pid.send_replace(pid_of(&child));
        }
    }

    /// The status with which the process ended by itself; `None` if it was made to end.
    async fn until_exit(&self, child: &mut Child) -> Option<ExitStatus> {
        let group = pid_of(child);
        tokio::select! {
            status = child.wait() => return status.ok(),
            () = self.end.cancelled() => send(group, Signal::SIGTERM, kill),
            () = self.kill.cancelled() => {}
        }
        tokio::select! {
            _ = child.wait() => {}
            () = self.kill.cancelled() => {
                send(group, Signal::SIGKILL, killpg);
                let _ = child.wait().await;
            }
        }
        // What the process has started itself, such as an Envoy, goes with it.
        send(group, Signal::SIGKILL, killpg);
        self.pid.send_replace(None);
        None
    }
}

fn pid_of(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw)
}

/// A process that has just ended is no error: that is what the signal is for.
fn send(to: Option<Pid>, signal: Signal, how: fn(Pid, Option<Signal>) -> nix::Result<()>) {
    if let Some(pid) = to {
        let _ = how(pid, Some(signal));
    }
}

fn spawn(plan: &Plan, wrapper: &Path) -> anyhow::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&plan.log);
    let log = log.with_context(|| format!("cannot open {}", plan.log.display()))?;
    let mut command = Command::new(wrapper);
    command
        .args(["exec", "--parent", &std::process::id().to_string(), "--"])
        .arg(&plan.program)
        .args(&plan.args);
    // Settings for the demo are none for its processes.
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("URSA_") {
            command.env_remove(key);
        }
    }
    // Logs are files, and their ends are shown: the reason of an error, not where it was made.
    command.env("NO_COLOR", "1").env("RUST_LIB_BACKTRACE", "0");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    command.spawn().with_context(|| format!("cannot start {}", plan.name))
}
