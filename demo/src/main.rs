//! `ursa-demo`: the counter application, and the launcher of the demo.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use ursa_demo::app::AppArgs;
use ursa_demo::exec::ExecArgs;
use ursa_demo::process::Tell;
use ursa_demo::redis_server::RedisArgs;
use ursa_demo::{Demo, Options, app, check, exec, guide, redis_server, signals};

/// The demo of the service mesh Ursa.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the counter application.
    App(AppArgs),
    /// Runs a Redis that knows its zone.
    Redis(RedisArgs),
    /// Starts the whole demo on this machine; SIGINT or SIGTERM ends it.
    Up(Options),
    /// Starts the demo, plays the scenario against it, and prints what was seen.
    Check(Options),
    /// Becomes another program that ends when its parent does.
    #[command(hide = true)]
    Exec(ExecArgs),
}

fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing installed a provider before");
    run(Cli::parse().command).unwrap_or_else(|error| {
        // For a person, so without the backtrace that `main` would print.
        eprintln!("ursa-demo: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    if let Command::Exec(args) = &command {
        match exec::run(args)? {}
    }
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // One thread, the main one: the kernel takes the thread that starts a process for its parent.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::App(args) => runtime.block_on(app::run(args)).map(|()| ExitCode::SUCCESS),
        Command::Redis(args) => runtime.block_on(redis_server::run(args)).map(|()| ExitCode::SUCCESS),
        Command::Up(options) => runtime.block_on(up(&options)),
        Command::Check(options) => runtime.block_on(play(&options)),
        Command::Exec(_) => unreachable!("it has become another program"),
    }
}

async fn up(options: &Options) -> anyhow::Result<ExitCode> {
    let end = signals::end(options.under_make)?;
    tokio::pin!(end);
    let mut demo = Demo::prepare(options, stdout())?;
    let started = tokio::select! {
        started = demo.bring_up() => started,
        reason = &mut end => {
            say(&format!("{reason}: ending"));
            demo.end().await;
            return Ok(ExitCode::SUCCESS);
        }
    };
    if let Err(error) = started {
        demo.end().await;
        return Err(error);
    }
    say(&guide::text(&demo));
    let reason = end.await;
    say(&format!("{reason}: ending"));
    demo.end().await;
    say("all processes have ended");
    Ok(ExitCode::SUCCESS)
}

async fn play(options: &Options) -> anyhow::Result<ExitCode> {
    let end = signals::end(options.under_make)?;
    tokio::pin!(end);
    let tell = stdout();
    let mut demo = Demo::prepare(options, tell.clone())?;
    let report = tokio::select! {
        report = check::play(&mut demo, &tell) => report,
        reason = &mut end => Err(anyhow::anyhow!("{reason} before the scenario was over")),
    };
    demo.end().await;
    let report = report?;
    say(&report.table());
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn stdout() -> Tell {
    Arc::new(say)
}

/// Nobody may be listening any more: that ends nothing.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
