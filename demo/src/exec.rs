//! `ursa-demo exec`: becomes another program that ends when its parent does.
//!
//! The parent-death signal stays set over `exec`, so no unsafe code between fork and exec is needed.
//! Invariant: a program whose parent is already gone does not start.

use std::convert::Infallible;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;
use clap::Args;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

/// Flags of `ursa-demo exec`.
#[derive(Clone, Debug, Args)]
pub struct ExecArgs {
    /// The process that must be the parent.
    #[arg(long)]
    pub parent: i32,
    /// The program and its arguments.
    #[arg(required = true, last = true)]
    pub command: Vec<String>,
}

/// Becomes the program; returns only if that fails.
pub fn run(args: &ExecArgs) -> anyhow::Result<Infallible> {
    let (program, arguments) = args.command.split_first().context("no program given")?;
    set_pdeathsig(Signal::SIGKILL).context("cannot set the parent-death signal")?;
    // It is not delivered for a parent that died before it was set.
    anyhow::ensure!(getppid().as_raw() == args.parent, "process {}, the parent, is gone", args.parent);
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {program}"))
}
