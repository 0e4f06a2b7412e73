//! What ends the demo: SIGINT, SIGTERM, SIGHUP, and the end of the `make` that started it.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use tokio::signal::unix::{SignalKind, signal};

const LOOK: Duration = Duration::from_millis(250);

/// Resolves with the reason when the demo shall end. Takes over the signals as soon as it is called.
pub fn end(under_make: bool) -> anyhow::Result<impl Future<Output = &'static str>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut hang_up = signal(SignalKind::hangup()).context("cannot handle SIGHUP")?;
    let make = if under_make { Make::parent()? } else { None };
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
            _ = hang_up.recv() => "SIGHUP",
            () = interrupted(make) => "SIGINT to make",
        }
    })
}

/// The `make` that waits for this process. On a SIGINT of its own it only restores the default action and goes on
/// waiting: it takes for granted that a terminal has sent the signal to its children too. Without a terminal nobody
/// has, so the demo looks whether make still catches SIGINT; nothing else shows that it does no more.
struct Make(Pid);

impl Make {
    fn parent() -> anyhow::Result<Option<Self>> {
        set_pdeathsig(Signal::SIGTERM).context("cannot set the parent-death signal")?;
        let make = Self(getppid());
        Ok(make.catches_interrupt().then_some(make))
    }

    fn catches_interrupt(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
        mask >> (Signal::SIGINT as i32 - 1) & 1 == 1
    }
}

async fn interrupted(make: Option<Make>) {
    let Some(make) = make else { return std::future::pending().await };
    while make.catches_interrupt() {
        tokio::time::sleep(LOOK).await;
    }
}
