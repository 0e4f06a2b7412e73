//! The demo's folders: everything it writes lies in its state folder, `target/demo`, which each run empties first.
//!
//! Only sockets may have to lie elsewhere, where paths are short enough for them. Invariant: a folder that is not a
//! demo's is never emptied, and no two demos use one at the same time.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

/// The longest path of a Unix socket, in bytes.
const SOCKET_PATH: usize = 107;
/// Room for a process's name and its socket's below the run folder.
const BELOW_RUN: usize = 24 + 40;
/// Held while the demo runs; its presence marks the folder as a demo's. It holds the path of the run folder, so that
/// the next demo removes that of one that was killed.
const LOCK: &str = "lock";
/// How run folders outside the state folder begin.
const RUN_PREFIX: &str = "ursa-demo-";

/// The folders of a running demo.
#[derive(Debug)]
pub struct Folders {
    state: PathBuf,
    run: PathBuf,
    _lock: File,
}

impl Folders {
    /// Makes the state folder, or empties that of an earlier demo.
    pub fn prepare(state: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(state).with_context(|| format!("cannot make {}", state.display()))?;
        let state = fs::canonicalize(state).with_context(|| format!("cannot find {}", state.display()))?;
        let mut lock = lock(&state)?;
        let left_over = PathBuf::from(io::read_to_string(&lock).context("cannot read the lock")?);
        let ours = left_over.file_name().is_some_and(|name| name.to_string_lossy().starts_with(RUN_PREFIX));
        if ours && left_over.is_dir() && !left_over.is_symlink() {
            fs::remove_dir_all(&left_over)
                .with_context(|| format!("cannot remove {}", left_over.display()))?;
        }
        for entry in fs::read_dir(&state)? {
            let path = entry?.path();
            if path.ends_with(LOCK) {
                continue;
            }
            let removed = if path.is_dir() && !path.is_symlink() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.with_context(|| format!("cannot remove {}", path.display()))?;
        }
        let run = run_folder(&state);
        lock.set_len(0)?;
        lock.rewind()?;
        lock.write_all(run.as_os_str().as_bytes())?;
        for folder in [&state.join("logs"), &state.join("data"), &run] {
            private_folder(folder)?;
        }
        Ok(Self { state, run, _lock: lock })
    }

    /// The state folder, an absolute path.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The folder of logs.
    pub fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// The log of a process.
    pub fn log(&self, process: &str) -> PathBuf {
        self.logs().join(format!("{process}.log"))
    }

    /// A folder of a process's own, for what it keeps. It exists, and only its owner can enter it.
    pub fn data(&self, process: &str) -> anyhow::Result<PathBuf> {
        let folder = self.state.join("data").join(process);
        if !folder.exists() {
            private_folder(&folder)?;
        }
        Ok(folder)
    }

    /// A folder for a process's sockets: a short path, which the process makes itself.
    pub fn sockets(&self, process: &str) -> PathBuf {
        self.run.join(process)
    }

    /// Writes a file whole or not at all. Its name is relative to the state folder.
    pub fn write(&self, name: &str, content: &str, mode: u32) -> anyhow::Result<PathBuf> {
        let path = self.state.join(name);
        let temporary = path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
            file.write_all(content.as_bytes())?;
            fs::rename(&temporary, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Removes what lies outside the state folder, and what says that the demo runs.
    pub fn clean_up(&self) {
        let endpoints = self.state.join(crate::endpoints::FILE);
        if endpoints.exists()
            && let Err(error) = fs::remove_file(&endpoints)
        {
            tracing::warn!(%error, path = %endpoints.display(), "cannot remove");
        }
        if let Err(error) = fs::remove_dir_all(&self.run) {
            tracing::warn!(%error, path = %self.run.display(), "cannot remove the folder of sockets");
        }
    }
}

fn lock(state: &Path) -> anyhow::Result<File> {
    let path = state.join(LOCK);
    if !path.exists() {
        let empty = fs::read_dir(state)?.next().is_none();
        ensure!(empty, "{} is not empty and no demo's: name another folder by --state-dir", state.display());
    }
    let lock = File::options().create(true).truncate(false).read(true).write(true).open(&path);
    let lock = lock.with_context(|| format!("cannot open {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            bail!("another demo runs in {}: end it, or name another folder by --state-dir", state.display())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// In the state folder, if sockets below it have paths that are short enough.
fn run_folder(state: &Path) -> PathBuf {
    let own = state.join("run");
    if own.as_os_str().as_bytes().len() + BELOW_RUN <= SOCKET_PATH {
        return own;
    }
    let short = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    short.join(format!("{RUN_PREFIX}{}", std::process::id()))
}

/// Fails if it exists: in a shared folder it could be somebody else's.
fn private_folder(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new().mode(0o700).create(path).with_context(|| format!("cannot make {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("ursa-demo-test-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn each_run_starts_empty_and_a_second_one_is_refused() {
        let state = scratch("runs");
        let first = Folders::prepare(&state).unwrap();
        first.write("leftover", "x", 0o600).unwrap();
        let refusal = Folders::prepare(&state).unwrap_err().to_string();
        assert!(refusal.contains("another demo runs in"), "{refusal}");
        drop(first);
        let second = Folders::prepare(&state).unwrap();
        assert!(!second.state().join("leftover").exists());
        fs::remove_dir_all(&state).unwrap();
    }

    #[test]
    fn a_folder_with_other_content_is_left_alone() {
        let state = scratch("foreign");
        fs::write(state.join("thesis.txt"), "years of work").unwrap();
        let refusal = Folders::prepare(&state).unwrap_err().to_string();
        assert!(refusal.contains("is not empty and no demo's"), "{refusal}");
        assert!(state.join("thesis.txt").exists());
        fs::remove_dir_all(&state).unwrap();
    }

    #[test]
    fn sockets_get_a_short_path_also_below_a_deep_folder() {
        let root = scratch("deep");
        let deep = root.join("a-folder-with-a-long-name".repeat(3));
        let folders = Folders::prepare(&deep).unwrap();
        let socket = folders.sockets("demo-app-aws").join("s".repeat(40));
        assert!(socket.as_os_str().len() <= SOCKET_PATH, "{}", socket.display());
        let run = folders.run.clone();
        assert!(run.exists() && !run.starts_with(&deep));
        fs::write(run.join("leftover"), "of a demo that was killed").unwrap();
        drop(folders);
        let next = Folders::prepare(&deep).unwrap();
        assert!(!run.join("leftover").exists());
        next.clean_up();
        assert!(!run.exists());
        fs::remove_dir_all(&root).unwrap();
    }
}
