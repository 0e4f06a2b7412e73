//! The names on disk, in the data folder, for an agent that comes back while the control plane is away.
//!
//! Invariant: the file is whole or absent, and of this proxy; one that cannot be used is no error.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::dns::names::{Addresses, Names};
use crate::files::write_private;

/// Where the names that one proxy was told are kept.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
    proxy: String,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    proxy: String,
    names: BTreeMap<String, Vec<IpAddr>>,
}

impl Store {
    /// In this folder, for the proxy `<mesh>/<name>`.
    pub fn new(data_dir: &Path, proxy: &str) -> Self {
        Self { path: data_dir.join("names.json"), proxy: proxy.to_owned() }
    }

    /// The names that were kept; if there are none that can be used, nothing is known.
    pub fn load(&self) -> Names {
        match self.read() {
            Ok(names) => {
                info!(names = names.iter().count(), "kept names found");
                names
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Names::default(),
            Err(error) => {
                warn!(file = %self.path.display(), %error, "kept names not used; waiting for the control plane's");
                Names::default()
            }
        }
    }

    fn read(&self) -> io::Result<Names> {
        let Kept { proxy, names } = serde_json::from_slice(&std::fs::read(&self.path)?)?;
        if proxy != self.proxy {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("they are {proxy}'s")));
        }
        Ok(Names::new(names.into_iter().map(|(name, addresses)| (name, addresses.into_iter().collect()))))
    }

    fn save(&self, names: &Names) -> io::Result<()> {
        let names = names.iter().map(|(name, addresses)| (name.to_owned(), addresses.all().collect()));
        let kept = Kept { proxy: self.proxy.clone(), names: names.collect() };
        write_private(&self.path, &serde_json::to_vec(&kept)?)
    }

    /// Keeps the names whenever they change, until shutdown.
    pub async fn follow(self, mut names: watch::Receiver<Arc<Names>>, shutdown: CancellationToken) {
        let mut kept = Arc::new(self.read().unwrap_or_default());
        loop {
            let told = names.borrow_and_update().clone();
            if told != kept {
                kept = told.clone();
                let store = self.clone();
                let saved = tokio::task::spawn_blocking(move || store.save(&told)).await;
                if let Err(error) = saved.map_err(io::Error::from).flatten() {
                    warn!(%error, "cannot keep the names");
                }
            }
            tokio::select! {
                Ok(()) = names.changed() => {}
                () = shutdown.cancelled() => return,
            }
        }
    }
}

impl FromIterator<IpAddr> for Addresses {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let mut sorted = Self::default();
        for address in addresses {
            match address {
                IpAddr::V4(address) => sorted.v4.push(address),
                IpAddr::V6(address) => sorted.v6.push(address),
            }
        }
        sorted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn names() -> Names {
        let addresses = ["10.0.0.2", "10.0.0.1", "fd00::1"].map(|text| text.parse::<IpAddr>().unwrap());
        Names::new([
            ("web.demo.mesh".into(), addresses.into_iter().collect()),
            ("gone.demo.mesh".into(), Addresses::default()),
        ])
    }

    #[tokio::test]
    async fn the_next_agent_knows_what_this_one_was_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), "default/web-1");
        assert_eq!(store.load(), Names::default());
        let (sender, shutdown) = (watch::Sender::new(Arc::default()), CancellationToken::new());
        let task = tokio::spawn(store.clone().follow(sender.subscribe(), shutdown.clone()));
        sender.send_replace(Arc::new(names()));
        let kept = async {
            while store.load() != names() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), kept).await.expect("the names are on disk");
        sender.send_replace(Arc::new(Names::new([])));
        let kept = async {
            while store.load() != Names::new([]) {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), kept).await.expect("that there are none is on disk");
        shutdown.cancel();
        task.await.unwrap();
    }

    #[test]
    fn what_cannot_be_used_is_as_if_it_were_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), "default/web-1");
        store.save(&names()).unwrap();
        assert_eq!(store.load(), names());
        assert_eq!(Store::new(folder.path(), "other/web-1").load(), Names::default());
        std::fs::write(&store.path, b"{").unwrap();
        assert_eq!(store.load(), Names::default());
    }
}
