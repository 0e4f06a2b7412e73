//! Requests by UDP.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::dns::answer::{Transport, Verdict};
use crate::dns::server::Resolver;

/// A pause after an error that may last.
const PAUSE: Duration = Duration::from_millis(100);

/// No request is larger.
const MAX_REQUEST: usize = 4096;

pub(super) async fn serve(socket: UdpSocket, resolver: Resolver) {
    let socket = Arc::new(socket);
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; MAX_REQUEST];
    loop {
        let (read, client) = tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                Err(error) => {
                    warn!(%error, "cannot receive DNS requests");
                    sleep(PAUSE).await;
                    continue;
                }
            },
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended {
                    warn!(%error, "a DNS request failed");
                }
                continue;
            }
        };
        let request = &buffer[..read];
        match resolver.judge(request, Transport::Udp) {
            Verdict::Drop => {}
            Verdict::Answer(answer) => send(&socket, &answer, client).await,
            Verdict::Forward(query) => {
                let (socket, resolver, request) = (socket.clone(), resolver.clone(), request.to_vec());
                tasks.spawn(async move {
                    if let Some(answer) = resolver.ask(&request, &query, Transport::Udp).await {
                        send(&socket, &answer, client).await;
                    }
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], client: std::net::SocketAddr) {
    if let Err(error) = socket.send_to(answer, client).await {
        debug!(%error, %client, "cannot send a DNS answer");
    }
}
