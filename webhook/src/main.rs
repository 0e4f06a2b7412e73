//! `ursa-webhook`: what the API server asks before it takes pods and resources.

mod admission;
mod body;
mod certificate;
mod config;
mod diagnostics;
mod files;
mod meshes;
mod metrics;
mod mutate;
mod namespaces;
mod review;
mod run;
mod serve;
mod settings;
mod validate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use config::RunArgs;

/// What the API server asks before it takes pods and resources of the service mesh Ursa.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until SIGTERM or SIGINT.
    Run(Box<RunArgs>),
}

fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing installed a provider before");
    let Cli { command: Command::Run(args) } = Cli::parse();
    match start(*args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // For people: what failed and why, in one line.
            eprintln!("ursa-webhook: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: RunArgs) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_new(&args.log)?)
        .with_writer(std::io::stderr)
        .init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run::run(args))
}
