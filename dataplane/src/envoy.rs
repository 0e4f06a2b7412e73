//! Runs Envoy: writes its bootstrap, starts it, starts it again when it dies, stops it.
//!
//! Invariant: [`supervise`] must be polled on a thread that lives as long as the process (the main one): the kernel
//! ties Envoy's life to the thread that started it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use ursa_envoy::{BootstrapSettings, bootstrap};

use crate::backoff::Backoff;
use crate::files::{remove_stale, write_private};

/// An Envoy that ran this long did not die of its start.
const STEADY: Duration = Duration::from_secs(30);

/// Time for Envoy to end by itself after the signal.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// How to run Envoy.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program.
    pub envoy: PathBuf,
    /// Node and sockets.
    pub bootstrap: BootstrapSettings,
    /// Where the bootstrap is written.
    pub bootstrap_file: PathBuf,
    /// How long listeners that go away may take to finish; whole seconds.
    pub drain_time: Duration,
    /// Worker threads; `None`: one a core.
    pub concurrency: Option<u32>,
}

/// The version that the program says it has, such as `1.40.0`.
pub async fn version(envoy: &Path) -> anyhow::Result<String> {
    use anyhow::Context;
    let output =
        Command::new(envoy).arg("--version").stdin(Stdio::null()).output().await.with_context(|| {
            format!("cannot run Envoy at {}: set --envoy to its program file", envoy.display())
        })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    parse_version(&text)
        .with_context(|| format!("{} does not seem to be Envoy: it says {:?}", envoy.display(), text.trim()))
}

/// From a line such as `envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`.
fn parse_version(text: &str) -> Option<String> {
    text.split_once("version:")?.1.trim().split('/').nth(1).map(str::to_owned)
}

/// Keeps Envoy running until `stop`; then it has ended.
pub async fn supervise(settings: Settings, stop: CancellationToken) -> io::Result<()> {
    let mut backoff = Backoff::default();
    write_private(&settings.bootstrap_file, bootstrap(&settings.bootstrap).as_bytes())?;
    loop {
        remove_stale(&settings.bootstrap.admin_socket)?;
        let started = Instant::now();
        match spawn(&settings) {
            Ok(mut child) => {
                info!(pid = child.id(), "Envoy started");
                tokio::select! {
                    status = child.wait() => match status {
                        Ok(status) => error!(%status, "Envoy died"),
                        Err(error) => error!(%error, "lost track of Envoy"),
                    },
                    () = stop.cancelled() => return end(child).await,
                }
            }
            Err(error) => error!(envoy = %settings.envoy.display(), %error, "cannot start Envoy"),
        }
        if started.elapsed() > STEADY {
            backoff.reset();
        }
        let delay = backoff.pause();
        info!(?delay, "starting Envoy again");
        tokio::select! {
            () = sleep(delay) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

fn spawn(settings: &Settings) -> io::Result<Child> {
    // Not by its name: the program file may have been replaced meanwhile.
    Command::new("/proc/self/exe")
        .args(["exec-envoy", "--parent", &std::process::id().to_string(), "--"])
        .args(command(settings))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

/// Program and arguments.
fn command(settings: &Settings) -> Vec<OsString> {
    let mut command: Vec<OsString> = vec![
        settings.envoy.clone().into(),
        "--config-path".into(),
        settings.bootstrap_file.clone().into(),
        // Needs no shared memory, and several Envoys may run on a host.
        "--disable-hot-restart".into(),
        "--drain-time-s".into(),
        settings.drain_time.as_secs().max(1).to_string().into(),
        // Connections that a change forbids end within the drain time, not at its end.
        "--drain-strategy".into(),
        "immediate".into(),
        "--log-level".into(),
        "warning".into(),
    ];
    if let Some(threads) = settings.concurrency {
        command.extend(["--concurrency".into(), threads.to_string().into()]);
    }
    command
}

async fn end(mut child: Child) -> io::Result<()> {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have died just now; then there is nobody to be signalled.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    if timeout(STOP_WITHIN, child.wait()).await.is_err() {
        warn!("Envoy does not end; killing it");
        child.kill().await?;
    }
    info!("Envoy stopped");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_envoy_says() {
        let text = "\nenvoy  version: 9e5580/1.40.0/Clean/RELEASE/BoringSSL\n";
        assert_eq!(parse_version(text).as_deref(), Some("1.40.0"));
        assert_eq!(parse_version("true (GNU coreutils) 9.1"), None);
    }
}
