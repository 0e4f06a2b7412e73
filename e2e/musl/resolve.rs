//! Looks a name up as musl's C library does (other than glibc's: no AI_ADDRCONFIG, all servers at once, search paths of its
//! own). One file and no crate, for `rustc --target x86_64-unknown-linux-musl`; it answers as `ursa-e2e-app resolve` does.

use std::net::ToSocketAddrs as _;

fn main() {
    let name = std::env::args().nth(1).unwrap_or_default();
    match (name.as_str(), 0).to_socket_addrs() {
        Ok(found) => {
            let addresses: Vec<String> = found.map(|address| format!("\"{}\"", address.ip())).collect();
            println!("{{\"addresses\": [{}], \"error\": null}}", addresses.join(", "));
        }
        Err(error) => println!("{{\"addresses\": [], \"error\": {:?}}}", error.to_string()),
    }
}
