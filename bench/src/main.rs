//! `ursa-bench`: measures control planes under load, and prints a table and JSON.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ursa_bench::machine;
use ursa_bench::report::Report;
use ursa_bench::run::{Effort, run};

/// Measures the control plane of the service mesh Ursa under load.
#[derive(Debug, Parser)]
struct Args {
    /// How many dataplanes; each size is a run of its own.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 5_000])]
    sizes: Vec<usize>,
    /// How often each change is made; what changes nothing is done twice as often.
    #[arg(long, default_value_t = 10)]
    changes: usize,
    /// Where the control planes keep their data; emptied before and removed after each run.
    #[arg(long, default_value = "target/bench/state")]
    state_dir: PathBuf,
    /// Where the figures go.
    #[arg(long, default_value = "target/bench/bench.json")]
    json: PathBuf,
}

fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing installed a provider before");
    measure(&Args::parse()).unwrap_or_else(|error| {
        eprintln!("ursa-bench: {error:#}");
        ExitCode::FAILURE
    })
}

fn measure(args: &Args) -> anyhow::Result<ExitCode> {
    // A file a connection, on either side; control planes inherit it.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the limit of open files")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report { machine: machine::describe(), runs: Vec::new() };
    let mut failure = None;
    for size in &args.sizes {
        println!("{size} dataplanes:");
        let effort = Effort { dataplanes: *size, changes: args.changes, no_ops: 2 * args.changes };
        match runtime.block_on(run(effort, &args.state_dir)) {
            Ok(figures) => report.runs.push(figures),
            Err(error) => {
                failure = Some(error.context(format!("the run with {size} dataplanes")));
                break;
            }
        }
    }
    println!("\n{}", report.table());
    write(&args.json, &report)?;
    match failure {
        Some(error) => Err(error),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn write(path: &Path, report: &Report) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let text = serde_json::to_string_pretty(report).context("cannot encode the figures")?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}
