//! Requests by TCP: on each connection one after the other.
//! Source: RFC 7766.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::dns::answer::{Transport, Verdict};
use crate::dns::forward::{read_frame, write_frame};
use crate::dns::server::Resolver;

/// Connections that may be open at once; others wait to be accepted.
const MAX_CONNECTIONS: usize = 128;

/// A connection on which nothing is asked, or taken, for so long is closed.
const IDLE: Duration = Duration::from_secs(10);

/// A pause after an error that may last.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn serve(listener: TcpListener, resolver: Resolver) {
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut tasks = JoinSet::new();
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        let stream = loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => break stream,
                    Err(error) => {
                        warn!(%error, "cannot accept DNS connections");
                        sleep(PAUSE).await;
                    }
                },
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        warn!(%error, "a DNS connection failed");
                    }
                }
            }
        };
        let resolver = resolver.clone();
        tasks.spawn(async move {
            let _permit = permit;
            if let Err(error) = converse(stream, &resolver).await {
                debug!(%error, "a DNS connection ended");
            }
        });
    }
}

async fn converse(mut stream: TcpStream, resolver: &Resolver) -> io::Result<()> {
    loop {
        let request = timeout(IDLE, read_frame(&mut stream)).await??;
        let answer = match resolver.judge(&request, Transport::Tcp) {
            Verdict::Drop => return Ok(()),
            Verdict::Answer(answer) => answer,
            Verdict::Forward(query) => match resolver.ask(&request, &query, Transport::Tcp).await {
                Some(answer) => answer,
                None => return Ok(()),
            },
        };
        timeout(IDLE, write_frame(&mut stream, &answer)).await??;
    }
}
