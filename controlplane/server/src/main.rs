//! `ursa-cp`: the control plane.

mod config;
mod diagnostics;
mod files;
mod leader;
mod run;
mod servers;
mod tls_files;
mod zones;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use config::RunArgs;

/// The control plane of the service mesh Ursa.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the control plane until SIGTERM or SIGINT.
    Run(Box<RunArgs>),
}

fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing installed a provider before");
    let Cli { command: Command::Run(args) } = Cli::parse();
    match start(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // For people: what failed and why, in one line.
            eprintln!("ursa-cp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &RunArgs) -> anyhow::Result<()> {
    let config = args.resolve()?;
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_new(&config.log)?)
        .with_writer(std::io::stderr)
        .init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run::run(config))
}
