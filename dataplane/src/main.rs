//! `ursa-dp`: see the library. This file only reads the command line and starts the runtime.
//!
//! Invariant: the runtime's root future is polled on the main thread, on which Envoy's life depends.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tracing_subscriber::EnvFilter;
use ursa_dp::config::{AdminArgs, Cli, Command, Config};
use ursa_dp::exec;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // For people: what failed and why, in one line.
            eprintln!("ursa-dp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("TLS was set up before the program began"))?;
    match Cli::parse().command {
        Command::Run(config) => start(*config),
        Command::Join(arguments) => {
            println!("ursa-dp: {}", ursa_dp::join::join(&arguments)?);
            Ok(())
        }
        Command::Admin(arguments) => ask_admin(&arguments),
        Command::ExecEnvoy(arguments) => match exec::exec(&arguments)? {},
    }
}

fn ask_admin(arguments: &AdminArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let said = runtime.block_on(ursa_dp::admin::ask(arguments))?;
    std::io::stdout().write_all(said.as_bytes()).context("cannot write the answer")
}

fn start(config: Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log_level)
        .with_context(|| format!("--log-level {:?} is none: try info or debug", config.log_level))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2) // Beside a workload: its cores are not ours.
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(Box::pin(ursa_dp::run::run(config)))
}
