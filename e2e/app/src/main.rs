//! What the tests' pods run: servers that say who called, and callers that say what they got. Answers are JSON lines.

mod call;
mod serve;
mod sniff;

use std::time::Duration;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until SIGTERM.
    Serve {
        /// What the answers are signed with.
        #[arg(long, default_value = "app")]
        name: String,
        /// HTTP: answers who called.
        #[arg(long)]
        http: Option<u16>,
        /// TCP: speaks first.
        #[arg(long)]
        banner: Option<u16>,
        /// TCP: repeats what it hears.
        #[arg(long)]
        echo: Option<u16>,
        /// Calls this at its first instruction, and ends in failure if it is not answered.
        #[arg(long)]
        first: Option<String>,
    },
    /// Calls once; fails if it is not answered by 200.
    Call { url: String },
    /// Calls so many times, one after the other; says how often each server answered, by its name.
    Count {
        url: String,
        times: u32,
        /// By the pods that answered.
        #[arg(long)]
        pods: bool,
        /// HTTP/2 on one connection.
        #[arg(long)]
        http2: bool,
    },
    /// Calls again and again until its standard input ends; then says how often it was answered, and how often not.
    Load {
        url: String,
        /// A connection for each call.
        #[arg(long)]
        anew: bool,
        #[arg(long, default_value_t = 4)]
        callers: u32,
    },
    /// Connects, says nothing, and tells what it hears.
    Listen {
        /// HOST:PORT.
        address: String,
    },
    /// Fails unless a connection opens.
    Reach {
        /// HOST:PORT.
        address: String,
    },
    /// Keeps a connection to an echo until that or its standard input ends; tells how long it lived.
    Hold {
        /// HOST:PORT.
        address: String,
    },
    /// Calls on one connection, never on another, until it is not answered by 200; tells what it got then.
    HoldHttp {
        /// HOST:PORT.
        address: String,
    },
    /// Calls all the time, each time on a connection of its own, until its standard input ends; tells when (in milliseconds
    /// since 1970) it is first answered, or first refused, after it was not, and when the last call before began.
    Flips { url: String },
    /// Looks at all that crosses the host's network, until its standard input ends; says how many frames to or from an
    /// address had each text in them. Needs CAP_NET_RAW.
    Sniff {
        #[arg(long)]
        address: std::net::Ipv4Addr,
        texts: Vec<String>,
    },
    /// Looks a name up, as the C library does.
    Resolve { name: String },
    /// Does nothing for so many seconds, then ends with this code.
    Sleep {
        seconds: u64,
        #[arg(default_value_t = 0)]
        code: u8,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<std::process::ExitCode> {
    // The client is built with TLS, which nobody here uses.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match Cli::parse().command {
        Command::Serve { name, http, banner, echo, first } => {
            if let Some(url) = first {
                call::once(&url).await?;
            }
            serve::until_told(&name, http, banner, echo).await?;
        }
        Command::Call { url } => call::once(&url).await?,
        Command::Count { url, times, pods, http2 } => call::count(&url, times, pods, http2).await?,
        Command::Load { url, anew, callers } => call::load(&url, anew, callers).await?,
        Command::Listen { address } => call::listen(&address).await?,
        Command::Reach { address } => drop(tokio::net::TcpStream::connect(&address).await?),
        Command::Hold { address } => call::hold(&address).await?,
        Command::HoldHttp { address } => call::hold_http(&address).await?,
        Command::Flips { url } => call::flips(&url).await?,
        Command::Sniff { address, texts } => sniff::until_told(address, texts).await?,
        Command::Resolve { name } => call::resolve(&name).await?,
        Command::Sleep { seconds, code } => {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            return Ok(code.into());
        }
    }
    Ok(std::process::ExitCode::SUCCESS)
}
