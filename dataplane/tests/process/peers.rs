//! Whom permissive inbounds let in without an identity of the mesh is counted by peer, and told to the control plane.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use ursa_identity::ZoneCa;
use ursa_model::{IdentityPattern, InboundTls, Protocol, TrustDomain};
use ursa_proto::agent::PeerTransport::{Plaintext, Tls};

use crate::agent::Agent;
use crate::caller::{Caller, HOUR};
use crate::mesh::{LOCALHOST, Model, echo, free_port, http};
use crate::plane::{Plane, Resources, authority};
use crate::wait::{SOON, eventually};

/// Reads up to an empty line; `None` if it is no HTTP.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok().filter(u8::is_ascii)?);
    }
    String::from_utf8(head).ok()
}

/// A connection from 127.0.0.`host`.
async fn connect(host: u8, port: u16) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind((IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)), 0).into()).ok()?;
    socket.connect((LOCALHOST, port).into()).await.ok()
}

/// A plaintext connection to the echo, once it has answered.
async fn talks(host: u8, port: u16) -> Option<TcpStream> {
    let mut stream = connect(host, port).await?;
    stream.write_all(b"+word").await.ok()?;
    let mut heard = [0; 8];
    timeout(SOON, stream.read_exact(&mut heard)).await.unwrap().ok()?;
    assert_eq!(&heard, b"app+word");
    Some(stream)
}

/// A plaintext HTTP request on a connection that may have had others.
async fn asks(stream: &mut TcpStream) {
    let request = b"GET / HTTP/1.1\r\nHost: web\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let answer = timeout(SOON, read_head(stream)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// TLS that is not the mesh's, to an application that speaks none.
async fn greets(caller: &Caller, host: u8, port: u16) {
    let tcp = connect(host, port).await.unwrap();
    assert!(timeout(SOON, caller.handshake(tcp, b"h2")).await.unwrap().is_none());
}

fn model(authority: &ZoneCa, tcp: (u16, SocketAddr), http: (u16, SocketAddr)) -> Resources {
    let domain = TrustDomain::new("east", "default");
    let tls = InboundTls {
        trust: [(domain.to_string(), authority.root_pem().to_owned())].into(),
        allowed: vec![IdentityPattern::Service(domain, "caller".into())],
        permissive: true,
    };
    Model::new()
        .inbound(tcp.0, tcp.1, Some(tls.clone()))
        .inbound_of(Protocol::Http, http.0, http.1, Some(tls))
        .resources()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_without_an_identity_is_told_by_peer_and_the_mesh_is_not() {
    let application = http().await;
    let (tcp, http) = (free_port(), free_port());
    let authority = authority();
    let caller = Caller::new(&authority);
    let mut plane = Plane::start(model(&authority, (tcp, echo("app").await), (http, application))).await;
    plane.set(|state| state.authority = Some((authority, HOUR)));
    let _agent = Agent::start(&plane);
    eventually("mutual TLS works", async || caller.meets(tcp).await).await;
    let held = eventually("plaintext gets in", async || talks(2, tcp).await).await;
    let mut asking = eventually("plaintext HTTP connects", async || connect(3, http).await).await;
    asks(&mut asking).await;
    asks(&mut asking).await;
    greets(&caller, 4, tcp).await;
    greets(&caller, 4, http).await;
    let (tcp_port, http_port) = (u32::from(tcp), u32::from(http));
    let told = |words: u64, requests: u64| {
        let peer = |port, transport, host: u8, count| (port, transport, format!("127.0.0.{host}"), count);
        let mut all = vec![
            peer(tcp_port, Plaintext, 2, words),
            peer(tcp_port, Tls, 4, 1),
            peer(http_port, Plaintext, 3, requests),
            peer(http_port, Tls, 4, 1),
        ];
        all.sort();
        all
    };
    let sees = async |what: &str, expected: Vec<_>| {
        let last = |last: &Vec<_>| {
            let mut last = last.clone();
            last.sort();
            last == expected
        };
        plane.sees(what, |state| state.peers.last().is_some_and(last).then_some(())).await;
    };
    // What is open counts already.
    sees("each peer is told", told(1, 2)).await;
    // What ends does not count again, nor does the mesh.
    drop(held);
    eventually("mutual TLS works again", async || caller.meets(tcp).await).await;
    drop(talks(2, tcp).await.unwrap());
    asks(&mut asking).await;
    sees("the counts go on", told(2, 3)).await;
    let before = plane.see(|state| state.peers.len());
    plane.stop();
    plane.resume().await;
    let whole = plane.sees("they are told to a new session", |state| state.peers.get(before).cloned()).await;
    assert_eq!(whole.iter().map(|peer| peer.3).sum::<u64>(), 7, "{whole:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_knows_nothing_of_peers_is_told_nothing_of_them() {
    let tcp = free_port();
    let authority = authority();
    let mut plane =
        Plane::start(model(&authority, (tcp, echo("app").await), (free_port(), http().await))).await;
    plane.set(|state| (state.knows_no_peers, state.authority) = (true, Some((authority, HOUR))));
    let agent = Agent::start(&plane);
    drop(eventually("plaintext gets in", async || talks(2, tcp).await).await);
    eventually("Envoy has logged it", async || {
        let stats =
            agent.admin("/stats?filter=^access_logs\\.grpc_access_log\\.grpc_entries_flushed$").await?;
        stats.trim().ends_with(": 1").then_some(())
    })
    .await;
    plane.see(|state| assert_eq!((state.hellos.len(), state.peers.len()), (1, 0)));
    // One that does is told all.
    plane.set(|state| state.knows_no_peers = false);
    plane.stop();
    plane.resume().await;
    plane
        .sees("it is told", |state| {
            let expected = vec![(u32::from(tcp), Plaintext, "127.0.0.2".to_owned(), 1)];
            (state.peers.last() == Some(&expected)).then_some(())
        })
        .await;
}
