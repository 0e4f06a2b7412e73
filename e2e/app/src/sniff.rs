//! What crosses the host's network. Source: packet(7).

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use serde_json::json;

use crate::call::told_to_stop;

/// What the kernel keeps until it is read.
const ROOM: usize = 16 << 20;
/// Ethernet's header, and the places of the addresses in that of IPv4.
const ETHERNET: usize = 14;
const SOURCE: usize = ETHERNET + 12;
const DESTINATION: usize = ETHERNET + 16;

pub(crate) async fn until_told(address: Ipv4Addr, texts: Vec<String>) -> anyhow::Result<()> {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    setsockopt(&socket, sockopt::RcvBuf, &ROOM)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 100_000))?;
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    let look = tokio::task::spawn_blocking(move || look(&socket, address, &texts, &told));
    println!("{}", json!({"looking": true}));
    told_to_stop().await;
    stop.store(true, Ordering::Relaxed);
    println!("{}", look.await??);
    Ok(())
}

fn look(
    socket: &OwnedFd,
    address: Ipv4Addr,
    texts: &[String],
    stop: &AtomicBool,
) -> anyhow::Result<serde_json::Value> {
    let (mut frames, mut found) = (0_u64, vec![0_u64; texts.len()]);
    let mut buffer = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        let length = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => length,
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let frame = &buffer[..length];
        let is_of = |place: usize| frame.get(place..place + 4) == Some(&address.octets()[..]);
        if !is_of(SOURCE) && !is_of(DESTINATION) {
            continue;
        }
        frames += 1;
        for (text, count) in texts.iter().zip(&mut found) {
            *count += u64::from(frame.windows(text.len()).any(|part| part == text.as_bytes()));
        }
    }
    Ok(json!({"frames": frames, "found": found}))
}
