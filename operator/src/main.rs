//! `ursa-operator`: sets up control planes and webhooks in a Kubernetes cluster.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use ursa_operator::{Cli, Command, RunArgs};

fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing installed a provider before");
    let Cli { command: Command::Run(args) } = Cli::parse();
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // For people: what failed and why, in one line.
            eprintln!("ursa-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: RunArgs) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_new(&args.log)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(ursa_operator::run(args))
}
