//! `ursa-init`: makes the kernel send a workload's traffic to its proxy, before the workload starts; and undoes it.
//!
//! What is captured is decided in `ursa-redirect`. Invariant: however often it runs, there is one capture or none.

mod capture;
mod cli;
mod iptables;
mod ipv6;
mod lower;
mod nftables;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use cli::{Cli, Command};

fn main() -> ExitCode {
    match run() {
        Ok(said) => {
            println!("{}", said.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => {
            // For people: what failed and what to do, in one line.
            eprintln!("ursa-init: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<String> {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
    };
    match Cli::parse().command {
        Command::Up { backend, settings } => runtime()?.block_on(capture::up(settings.settings()?, backend)),
        Command::Down { backend } => runtime()?.block_on(capture::down(backend)),
        Command::Print { format, settings } => Ok(cli::print(&settings.settings()?, format)),
    }
}
