//! Files in the data folder. Secrets are readable by their owner only, and never half written.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;

/// Makes a folder that its owner alone can enter.
pub(crate) fn private_folder(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    let mode = fs::metadata(path)?.permissions().mode();
    let others = mode & 0o077;
    anyhow::ensure!(others == 0, "{} must be its owner's alone: chmod 700 it", path.display());
    Ok(())
}

/// Writes a file whole or not at all.
pub(crate) fn write(path: &Path, content: &str, mode: u32) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
