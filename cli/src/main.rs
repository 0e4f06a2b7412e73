//! `ursactl`: the command line to a control plane's REST API. Exit codes: 0 done, 1 failed, 2 wrong usage.
//!
//! Invariant: a token is sent only to the control plane that it was given for, over verified TLS or on this machine.

mod access;
mod args;
mod client;
mod columns;
mod commands;
mod config;
mod documents;
mod environment;
mod failure;
mod files;
mod output;
mod peers;
mod problem;
mod resource;
mod size;
mod table;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command};
use crate::environment::Environment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Fails only if there is one already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Ends the process with 2 for what is no command line, with 0 for help.
    let cli = Cli::parse();
    match run(&cli, &Environment::of_process()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::exit(&error),
    }
}

async fn run(cli: &Cli, environment: &Environment) -> anyhow::Result<()> {
    let common = &cli.common;
    match &cli.command {
        Command::Apply(apply) => commands::apply::run(common, environment, apply).await,
        Command::Get(get) => commands::get::run(common, environment, get).await,
        Command::Delete(delete) => commands::delete::run(common, environment, delete).await,
        Command::Inspect(inspect) => commands::inspect::run(common, environment, inspect).await,
        Command::Generate(generate) => commands::generate::run(common, environment, generate).await,
        Command::Revoke(revoke) => commands::revoke::run(common, environment, revoke).await,
        Command::Zone(zone) => commands::zone::run(common, environment, zone).await,
        Command::Adopt => commands::adopt::run(common, environment).await,
        Command::Backup(backup) => commands::backup::take(common, environment, backup).await,
        Command::Restore(restore) => commands::backup::restore(common, environment, restore).await,
        Command::Install(install) => commands::install::run(install),
        Command::Config(args::Config::ControlPlanes(command)) => {
            commands::control_planes::run(common, environment, command)
        }
        Command::Version(version) => commands::version::run(common, environment, version).await,
        Command::Completion { shell } => commands::completion::run(*shell),
    }
}
