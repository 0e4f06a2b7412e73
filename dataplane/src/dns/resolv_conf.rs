//! The system's resolvers, as `resolv.conf` names them.
//!
//! Invariant: an address at which this server itself listens is never among them.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::warn;

/// As many as the C libraries use.
const MAX_RESOLVERS: usize = 3;

/// The file is read at most so often, and only when somebody asks.
const READ_EVERY: Duration = Duration::from_secs(1);

/// The resolvers of a file, which may change.
#[derive(Debug)]
pub struct Resolvers {
    file: PathBuf,
    port: u16,
    own: Vec<SocketAddr>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    at: Option<Instant>,
    text: String,
    resolvers: Arc<[SocketAddr]>,
}

impl Resolvers {
    /// The resolvers in the file, at this port, without those that are us.
    pub fn new(file: PathBuf, port: u16, own: Vec<SocketAddr>) -> Self {
        Self { file, port, own, seen: Mutex::default() }
    }

    /// Those of now, in order; the last ones known while the file cannot be read.
    pub async fn current(&self) -> Arc<[SocketAddr]> {
        let mut seen = self.seen.lock().await;
        if seen.at.is_none_or(|at| at.elapsed() >= READ_EVERY) {
            seen.at = Some(Instant::now());
            match tokio::fs::read_to_string(&self.file).await {
                Ok(text) if text != seen.text => {
                    seen.resolvers = self.resolvers(&text).into();
                    seen.text = text;
                    if seen.resolvers.is_empty() {
                        warn!(file = %self.file.display(), "names no resolver that can be asked");
                    }
                }
                Ok(_) => {}
                Err(error) => warn!(file = %self.file.display(), %error, "cannot read the resolvers"),
            }
        }
        seen.resolvers.clone()
    }

    fn resolvers(&self, text: &str) -> Vec<SocketAddr> {
        let named = parse(text, self.port).into_iter().take(MAX_RESOLVERS);
        named.filter(|address| !self.own.contains(address)).collect()
    }
}

fn parse(text: &str, port: u16) -> Vec<SocketAddr> {
    let mut words = text.lines().map(str::split_whitespace);
    let values = words
        .by_ref()
        .filter_map(|mut words| words.next().filter(|key| *key == "nameserver").and(words.next()));
    values.filter_map(|value| address(value, port)).collect()
}

/// `192.0.2.1`, `2001:db8::1`, `fe80::1%eth0`.
fn address(text: &str, port: u16) -> Option<SocketAddr> {
    let Some((address, interface)) = text.split_once('%') else {
        return text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, port));
    };
    let index = match interface.parse() {
        Ok(index) => index,
        Err(_) => nix::net::if_::if_nametoindex(interface).ok()?,
    };
    Some(SocketAddrV6::new(address.parse().ok()?, port, 0, index).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_as_the_c_libraries_do() {
        let text = "# nameserver 192.0.2.9\nsearch demo.svc.cluster.local\n nameserver\t10.0.0.10 extra\n\
            nameserver not-an-address\nnameserver\nnameservers 192.0.2.8\nnameserver 2001:db8::1\n\
            options ndots:5\nnameserver fe80::1%7\nnameserver fe80::1%no-such-interface\n";
        let expected = ["10.0.0.10:53", "[2001:db8::1]:53", "[fe80::1%7]:53"];
        assert_eq!(parse(text, 53), expected.map(|text| text.parse().unwrap()));
    }

    #[test]
    fn we_are_not_our_own_resolver() {
        let own = vec!["127.0.0.1:53".parse().unwrap()];
        let resolvers = Resolvers::new(PathBuf::new(), 53, own);
        let text = "nameserver 127.0.0.1\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let expected = ["192.0.2.1:53", "192.0.2.2:53"];
        assert_eq!(resolvers.resolvers(text), expected.map(|text| text.parse().unwrap()));
    }

    proptest::proptest! {
        #[test]
        fn no_file_harms(text in "(nameserver |[0-9a-f:.%]{0,12}|\\PC{0,20}|\\n){0,20}") {
            parse(&text, 53);
        }
    }
}
