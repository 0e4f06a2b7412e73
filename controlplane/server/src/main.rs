//! `ursa-cp`: the control plane.

mod config;
mod connection;
mod diagnostics;
mod files;
mod keys;
mod leader;
mod programmed;
mod run;
mod servers;
mod tls_files;
mod tls_secret;
mod zone_status;
mod zones;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use config::{DATA_DIR, RunArgs};

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
    /// Prints the administrator's token of the control plane that runs here, for the REST API.
    AdminToken {
        /// The control plane's data folder.
        #[arg(long, env = "URSA_CP_DATA_DIR", default_value = DATA_DIR)]
        data_dir: PathBuf,
    },
}

fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing installed a provider before");
    let done = match Cli::parse().command {
        Command::Run(args) => start(&args),
        Command::AdminToken { data_dir } => print_admin_token(&data_dir),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // For people: what failed and why, in one line.
            eprintln!("ursa-cp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_admin_token(data_dir: &Path) -> anyhow::Result<()> {
    let path = data_dir.join(run::ADMIN_TOKEN);
    let token = std::fs::read_to_string(&path).with_context(|| {
        format!("cannot read {}: does the control plane run here, as this user?", path.display())
    })?;
    writeln!(std::io::stdout(), "{}", token.trim()).context("cannot print the token")
}

fn start(args: &RunArgs) -> anyhow::Result<()> {
    let config = args.resolve()?;
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_new(&config.log)?)
        .with_writer(std::io::stderr)
        .init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run::run(config))
}
