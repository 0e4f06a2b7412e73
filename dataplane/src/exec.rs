//! `exec-envoy`: becomes Envoy, which the kernel kills when the agent ends, however it ends.
//!
//! Invariant: if the agent has gone already, Envoy does not start.
//! Source: prctl(2), `PR_SET_PDEATHSIG`; it survives execve(2) of a program without set-user-ID or capabilities.

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

use crate::config::ExecEnvoy;

/// Returns only if it fails.
pub fn exec(arguments: &ExecEnvoy) -> anyhow::Result<Infallible> {
    set_pdeathsig(Signal::SIGKILL).context("cannot tie Envoy's life to the agent's")?;
    // The signal comes for a parent that ends from now on; this is for one that ended before.
    if getppid().as_raw() != arguments.parent {
        bail!("the agent has gone; Envoy is not started");
    }
    let (program, rest) = arguments.command.split_first().context("no program named")?;
    let error = Command::new(program).args(rest).exec();
    Err(error).with_context(|| format!("cannot run Envoy at {}", program.to_string_lossy()))
}
