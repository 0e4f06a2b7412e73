//! Control planes that belong together, on loopback addresses of their own, in a folder that is removed in the end.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::Context as _;

use crate::plane::Plane;

/// Global and its zones.
#[derive(Debug)]
pub struct Planes {
    /// The zones, in the order in which they were asked for.
    pub zones: Vec<Plane>,
    /// Where resources are applied.
    pub global: Plane,
    _folder: Folder,
}

/// A control plane without zones.
#[derive(Debug)]
pub struct Single {
    /// The control plane.
    pub plane: Plane,
    _folder: Folder,
}

#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    /// Emptied, if there is one.
    fn make(path: &Path) -> anyhow::Result<Self> {
        let _ = fs::remove_dir_all(path);
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Planes {
    /// Starts global and zones of these names; the folder is emptied first.
    pub async fn start(folder: &Path, zones: &[&str]) -> anyhow::Result<Self> {
        let owned = Folder::make(folder)?;
        let net = Net::next();
        let global = Plane::start(folder, "global", net.host(1), &["--mode", "global"]).await?;
        let (address, ca) = (global.zones(), global.ca_file().display().to_string());
        let mut started = Vec::with_capacity(zones.len());
        for (zone, host) in zones.iter().zip(2..) {
            let token = global.zone_token(zone).await?.display().to_string();
            let args = [
                ["--mode", "zone"],
                ["--zone", zone],
                ["--global-address", &address],
                ["--global-ca-file", &ca],
                ["--zone-token-file", &token],
            ];
            started.push(Plane::start(folder, zone, net.host(host), &args.concat()).await?);
        }
        Ok(Self { zones: started, global, _folder: owned })
    }
}

impl Single {
    /// Starts one; the folder is emptied first.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let owned = Folder::make(folder)?;
        let plane = Plane::start(folder, "single", Net::next().host(1), &["--mode", "standalone"]).await?;
        Ok(Self { plane, _folder: owned })
    }
}

/// Loopback addresses that nobody else has: neither another group of this process, nor (most likely) another process.
struct Net(u8, u8);

impl Net {
    fn next() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let process = u8::try_from(std::process::id() % 100).unwrap_or_default();
        Self(100 + process, NEXT.fetch_add(1, Ordering::Relaxed))
    }

    fn host(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.0, self.1, number)
    }
}
