//! The last-good set on disk, in the data folder.
//!
//! Invariant: the file is whole or absent (it is replaced by renaming), and a file that cannot be used is no error:
//! the control plane sends everything again.

use std::io;
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use crate::files::write_private;
use crate::xds::cache::Cache;

/// Where the last-good set of one proxy is kept.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
    proxy: String,
}

impl Store {
    /// In this folder, for the proxy `<mesh>/<name>`.
    pub fn new(data_dir: &Path, proxy: &str) -> Self {
        Self { path: data_dir.join("last-good.pb"), proxy: proxy.to_owned() }
    }

    /// The kept set; `None` if there is none that can be used.
    pub fn load(&self) -> Option<Cache> {
        let file = self.path.display();
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(%file, %error, "cannot read the last-good configuration; waiting for the control plane's");
                return None;
            }
        };
        match Cache::decode(&bytes, &self.proxy) {
            Ok(cache) => {
                info!(%file, bytes = bytes.len(), "last-good configuration found");
                Some(cache)
            }
            Err(error) => {
                warn!(%file, %error, "last-good configuration not used; waiting for the control plane's");
                None
            }
        }
    }

    /// The bytes to keep.
    pub fn encode(&self, cache: &Cache) -> Vec<u8> {
        cache.encode(&self.proxy)
    }

    /// Keeps these bytes; blocks until they are on disk.
    pub fn save(&self, bytes: &[u8]) -> io::Result<()> {
        write_private(&self.path, bytes)
    }
}
