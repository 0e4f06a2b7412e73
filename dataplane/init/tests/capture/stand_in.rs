//! Processes that stand for the proxy, its workload, resolvers and others, and that ask them.
//!
//! Invariant: each ends with the test that started it, and after two minutes in any case.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::exit;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, getsockopt, listen,
    setsockopt, socket, sockopt,
};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

/// The first argument of a stand-in.
pub(crate) const MARK: &str = "stand-in";

/// How long a question may take.
const ANSWER: Duration = Duration::from_secs(3);

/// `UID serve NAME=tcp:ADDRESS…` or `UID ask PROTOCOL ADDRESS [SOURCE]` or `UID hold ADDRESS`.
pub(crate) fn main(arguments: &[String]) {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (uid, rest) = words.split_first().expect("a uid");
    become_user(uid.parse().expect("a uid"));
    match rest {
        ["serve", listeners @ ..] => serve(listeners),
        ["ask", protocol, address, source @ ..] => {
            let source = source.first().map(|source| source.parse().expect("an address"));
            let answer = match *protocol {
                "tcp" => ask_tcp(address.parse().expect("an address"), source),
                _ => ask_udp(address.parse().expect("an address"), source),
            };
            println!("{}", answer.unwrap_or_else(|error| format!("error: {error}")));
        }
        ["hold", address] => hold(address.parse().expect("an address")),
        _ => unreachable!("{rest:?} is none of what a stand-in does"),
    }
}

/// Sockets belong to who makes them, so this comes first.
fn become_user(uid: u32) {
    setgroups(&[]).expect("root gives up its groups");
    setgid(Gid::from_raw(uid)).expect("root changes its group");
    setuid(Uid::from_raw(uid)).expect("root becomes a user");
}

fn serve(listeners: &[&str]) {
    for listener in listeners {
        let (name, address) = listener.split_once('=').expect("NAME=PROTOCOL:ADDRESS");
        let (protocol, address) = address.split_once(':').expect("NAME=PROTOCOL:ADDRESS");
        let (name, address) = (name.to_owned(), address.parse().expect("an address"));
        if protocol == "tcp" {
            let listener = tcp_listener(address);
            thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(&name, stream)));
        } else {
            let socket = UdpSocket::from(bound(SockType::Datagram, address).expect("the address is free"));
            thread::spawn(move || {
                let mut question = [0; 512];
                while let Ok((_, peer)) = socket.recv_from(&mut question) {
                    let _ = socket.send_to(name.as_bytes(), peer);
                }
            });
        }
    }
    println!("ready");
    until_the_test_ends();
}

fn until_the_test_ends() {
    thread::spawn(|| {
        thread::sleep(Duration::from_mins(2));
        exit(1);
    });
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Answers each line with the listener's name, where the connection was sent to, and where it comes from.
fn answer(name: &str, stream: TcpStream) {
    let name = name.to_owned();
    thread::spawn(move || {
        let sent_to = sent_to(&stream);
        let peer = stream.peer_addr().map(|peer| peer.ip());
        let mut lines = BufReader::new(&stream).lines();
        while let (Some(Ok(_)), Ok(peer)) = (lines.next(), &peer) {
            let _ = writeln!(&stream, "{name} {sent_to} {peer}");
        }
    });
}

fn sent_to(stream: &TcpStream) -> SocketAddr {
    let local = stream.local_addr().expect("a stream has an address");
    let remembered = match local {
        SocketAddr::V4(_) => getsockopt(stream, sockopt::OriginalDst).map(|address| {
            let ip = Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr));
            SocketAddr::from((ip, u16::from_be(address.sin_port)))
        }),
        SocketAddr::V6(_) => getsockopt(stream, sockopt::Ip6tOriginalDst).map(|address| {
            let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
            SocketAddr::from((ip, u16::from_be(address.sin6_port)))
        }),
    };
    remembered.unwrap_or(local) // Without a capture nothing is remembered.
}

/// A socket of the address's family alone, so that both families have one of their own.
fn bound(kind: SockType, address: SocketAddr) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

fn tcp_listener(address: SocketAddr) -> TcpListener {
    let socket = bound(SockType::Stream, address).expect("the address is free");
    listen(&socket, Backlog::new(16).expect("a small number")).expect("the socket listens");
    TcpListener::from(socket)
}

fn ask_tcp(address: SocketAddr, source: Option<SocketAddr>) -> std::io::Result<String> {
    let stream = match source {
        None => TcpStream::connect_timeout(&address, ANSWER)?,
        Some(source) => {
            let socket = bound(SockType::Stream, source)?;
            let stream = TcpStream::from(socket);
            stream.set_write_timeout(Some(ANSWER))?; // Bounds connecting too.
            connect(stream.as_raw_fd(), &SockaddrStorage::from(address))?;
            stream
        }
    };
    question(&stream)
}

fn question(mut stream: &TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(b"who are you?\n")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer.trim_end().to_owned())
}

/// Takes an answer only from whom was asked, as resolvers' clients do.
fn ask_udp(address: SocketAddr, source: Option<SocketAddr>) -> std::io::Result<String> {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(source.unwrap_or((any, 0).into()))?;
    socket.set_read_timeout(Some(ANSWER))?;
    socket.connect(address)?;
    socket.send(b"who are you?")?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// Connects, and asks anew over the one connection for each line it is given.
fn hold(address: SocketAddr) {
    let stream = TcpStream::connect_timeout(&address, ANSWER).expect("it is answered");
    for _ in std::iter::once(Ok(String::new())).chain(std::io::stdin().lines()) {
        println!("{}", question(&stream).unwrap_or_else(|error| format!("error: {error}")));
    }
}
