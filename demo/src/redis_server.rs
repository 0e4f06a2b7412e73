//! `ursa-demo redis`: a Redis that knows its zone, so that the counter application can tell which one answered.
//!
//! Invariant: it serves from memory only, and ends with this process.

use std::net::{Ipv6Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::{app, signals};

/// It has this long to answer for the first time.
const START: Duration = Duration::from_secs(30);

/// Flags of `ursa-demo redis`.
#[derive(Clone, Debug, Args)]
pub struct RedisArgs {
    /// The zone that it says it is in.
    #[arg(long)]
    pub zone: String,
    /// Where it listens, at every address.
    #[arg(long, default_value_t = 6379)]
    pub port: u16,
    /// Redis's program file.
    #[arg(long, default_value = "redis-server")]
    pub program: String,
}

/// Serves until it is told to end.
pub async fn run(args: RedisArgs) -> anyhow::Result<()> {
    let end = signals::end(false)?;
    let port = args.port.to_string();
    let mut redis = Command::new(&args.program)
        // Who may reach it, the mesh decides.
        .args(["--bind", "*", "-::*", "--protected-mode", "no", "--save", "", "--port", &port])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", args.program))?;
    tokio::select! {
        exited = redis.wait() => anyhow::bail!("redis ended by itself: {}", exited?),
        reason = end => tracing::info!(reason, "ending"),
        error = serve(&args) => return error,
    }
    Ok(())
}

/// Tells it the zone, and then waits for nothing.
async fn serve(args: &RedisArgs) -> anyhow::Result<()> {
    let address = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), args.port);
    let v4 = SocketAddr::new([127, 0, 0, 1].into(), args.port);
    let began = Instant::now();
    loop {
        let told =
            app::call(&[v4, address][..], &[&["SET", "zone", &args.zone]], Duration::from_secs(1)).await;
        match told {
            Ok(_) => break,
            Err(error) if began.elapsed() > START => return Err(error).context("redis does not answer"),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
    tracing::info!(zone = args.zone, port = args.port, "serving");
    std::future::pending().await
}
