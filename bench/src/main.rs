//! `ursa-bench`: measures control planes under load, and prints a table and JSON.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum as _};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ursa_bench::machine;
use ursa_bench::report::Report;
use ursa_bench::scenario::{Effort, Scenario};

/// Files of a process that are no clients' connections.
const OTHER_FILES: u64 = 500;

/// Measures the control plane of the service mesh Ursa under load.
#[derive(Debug, Parser)]
struct Args {
    /// What is measured, one after the other [default: everything].
    #[arg(long, value_enum, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// Sizes of each scenario: numbers, or `max` for as many clients as a process may have open files [default: those
    /// that each scenario has].
    #[arg(long, value_delimiter = ',', value_parser = size)]
    sizes: Vec<Size>,
    /// Small sizes, one repetition, no warm-up, unless other flags say otherwise: to see that everything works.
    #[arg(long)]
    quick: bool,
    /// Repetitions of each scenario in each size, after one that warms up and is not counted [default: 5].
    #[arg(long)]
    repeat: Option<usize>,
    /// How often each change is made in a repetition, after one that is not counted [default: 4].
    #[arg(long)]
    changes: Option<usize>,
    /// How long each kind of churn lasts, in seconds [default: 60].
    #[arg(long)]
    seconds: Option<u64>,
    /// Where the control planes keep their data; emptied before and removed after each repetition.
    #[arg(long, default_value = "target/bench/state")]
    state_dir: PathBuf,
    /// Where the figures go.
    #[arg(long, default_value = "target/bench/bench.json")]
    json: PathBuf,
}

#[derive(Clone, Copy, Debug)]
enum Size {
    Of(usize),
    Most,
}

fn size(text: &str) -> Result<Size, String> {
    match text {
        "max" => Ok(Size::Most),
        _ => match text.parse() {
            Ok(size) if size > 0 => Ok(Size::Of(size)),
            _ => Err("must be a number greater than 0, or max".into()),
        },
    }
}

impl Args {
    fn effort(&self) -> Effort {
        let (repeat, changes, seconds) = if self.quick { (1, 2, 3) } else { (5, 4, 60) };
        Effort {
            repeat: self.repeat.unwrap_or(repeat),
            changes: self.changes.unwrap_or(changes),
            seconds: self.seconds.unwrap_or(seconds),
        }
    }
}

fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing installed a provider before");
    match measure(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ursa-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> anyhow::Result<()> {
    let effort = args.effort();
    ensure!(effort.repeat > 0 && effort.changes > 0 && effort.seconds > 0, "there is nothing to measure");
    // A file a connection, on either side; control planes inherit it.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the limit of open files")?;
    // Each connection has two addresses and a port: more than the kernel has ports for is out of reach too.
    let most = usize::try_from(hard.saturating_sub(OTHER_FILES).clamp(1, 25_000))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let scenarios =
        if args.scenarios.is_empty() { Scenario::value_variants() } else { args.scenarios.as_slice() };
    let mut report = Report { machine: machine::describe(), runs: Vec::new() };
    let mut failures = 0;
    let mut failed = |error: anyhow::Error| {
        eprintln!("ursa-bench: {error:#}");
        failures += 1;
    };
    for scenario in scenarios {
        let given = args.sizes.iter().map(|size| match size {
            Size::Of(size) => *size,
            Size::Most => most,
        });
        let sizes = match (args.sizes.is_empty(), args.quick) {
            (false, _) => given.collect(),
            (true, true) => scenario.quick_sizes(),
            (true, false) => scenario.sizes(most),
        };
        let smallest = sizes.iter().min().copied().unwrap_or_default();
        if !args.quick
            && let Err(error) = runtime.block_on(scenario.warm_up(smallest, &args.state_dir))
        {
            failed(error);
            continue;
        }
        for size in sizes {
            match runtime.block_on(scenario.run(size, &effort, &args.state_dir)) {
                Ok(run) => report.runs.push(run),
                Err(error) => failed(error),
            }
            // What is known stays, whatever comes after.
            report.write(&args.json)?;
        }
    }
    println!("{}", report.table());
    report.write(&args.json)?;
    ensure!(failures == 0, "{failures} of the runs failed");
    Ok(())
}
