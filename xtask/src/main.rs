//! Generators and checks of the workspace: `cargo xtask COMMAND`.

mod arrows;
mod config;
mod crds;
mod deps;
mod generated;
mod openapi;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Generators and checks of the workspace.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fails when a crate depends on one that the layout does not allow it.
    Deps,
    /// Writes `crds/<singular>.yaml`, the custom resource definitions, from the Rust types.
    Crds {
        /// Writes nothing; fails when a file is not what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Writes `config/base` and `config/chart`, by which the operator is installed.
    Config {
        /// Writes nothing; fails when a file is not what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Writes `docs/openapi.json`, the description of the REST API.
    Openapi {
        /// Writes nothing; fails when the file is not what would be written.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Deps => deps::run(),
        Command::Crds { check } => crds::run(check),
        Command::Config { check } => config::run(check),
        Command::Openapi { check } => openapi::run(check),
    };
    done.map_or_else(
        |error| {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}
