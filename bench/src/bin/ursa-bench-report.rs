//! `ursa-bench-report`: reads what `ursa-bench` has written.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use ursa_bench::compare::compare;
use ursa_bench::plot::plot;
use ursa_bench::report::Report;

/// Reads reports of ursa-bench.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints a report as a table.
    Table {
        /// The report.
        report: PathBuf,
    },
    /// Prints the figures of two reports side by side, with ratios. Judges nothing.
    Compare {
        /// The report to compare with.
        old: PathBuf,
        /// The report that is looked at.
        new: PathBuf,
    },
    /// Draws cost against size, as SVG.
    Plot {
        /// The report.
        report: PathBuf,
        /// Of which scenario.
        #[arg(long, default_value = "ten")]
        scenario: String,
        /// Where the picture goes.
        #[arg(long, default_value = "target/bench/bench.svg")]
        svg: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ursa-bench-report: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Table { report } => print!("{}", Report::read(&report)?.table()),
        Command::Compare { old, new } => print!("{}", compare(&Report::read(&old)?, &Report::read(&new)?)),
        Command::Plot { report, scenario, svg } => {
            let picture = plot(&Report::read(&report)?, &scenario)?;
            std::fs::write(&svg, picture).with_context(|| format!("cannot write {}", svg.display()))?;
        }
    }
    Ok(())
}
