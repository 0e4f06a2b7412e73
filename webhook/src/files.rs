//! Files that change while they are read.
//!
//! Kubernetes swaps a symlink above a mounted file, so that a watch of the file itself sees nothing, and one of the folder
//! has to know how. Comparing a few kilobytes once a second costs less than either, and cannot miss a change.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

const PERIOD: Duration = Duration::from_secs(1);

/// What is in some files, or why it cannot be read.
pub(crate) type Content = Result<Vec<Vec<u8>>, String>;

/// Reads the files, and again whenever one has changed; each content is given once, also one that cannot be used.
pub(crate) async fn follow(paths: Vec<PathBuf>, mut take: impl FnMut(&Content)) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        ticks.tick().await;
        let content = read(&paths).await;
        if last.as_ref() != Some(&content) {
            take(&content);
            last = Some(content);
        }
    }
}

async fn read(paths: &[PathBuf]) -> Content {
    let mut content = Vec::new();
    for path in paths {
        let bytes = tokio::fs::read(path).await;
        content.push(bytes.map_err(|error| format!("cannot read {}: {error}", path.display()))?);
    }
    Ok(content)
}
