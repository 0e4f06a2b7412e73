//! Loopback addresses of a test's own, so that tests run side by side and ports never clash.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::Context as _;

/// A block `127.N.x.y` that no other test on this machine uses while this value lives.
#[derive(Debug)]
pub struct Addresses {
    block: u8,
    _lock: File,
}

impl Addresses {
    /// Blocks below are the demo's.
    const BLOCKS: std::ops::RangeInclusive<u8> = 64..=190;

    /// Takes a free block: a lock on a file in a folder that all tests share.
    pub fn take() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join("ursa-e2e-addresses");
        std::fs::create_dir_all(&folder)?;
        { Self::BLOCKS }
            .find_map(|block| Self::lock(&folder, block))
            .context("every block of loopback addresses is taken")
    }

    fn lock(folder: &Path, block: u8) -> Option<Self> {
        let file = File::create(folder.join(block.to_string())).ok()?;
        file.try_lock().ok()?;
        Some(Self { block, _lock: file })
    }

    /// The address `127.<block>.<zone>.<host>`.
    pub fn host(&self, zone: u8, host: u8) -> IpAddr {
        Ipv4Addr::new(127, self.block, zone, host).into()
    }
}
