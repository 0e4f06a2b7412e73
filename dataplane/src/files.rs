//! Files and folders that only this user may see.
//!
//! Invariant: what [`write`] leaves behind is the old content or the new, never a part of either.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// The longest path of a Unix socket on Linux, in bytes (`sun_path` less its closing zero).
const MAX_SOCKET_PATH: usize = 107;

/// Why a folder or path cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system said no.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder belongs to someone else, who could change what is in it.
    #[error(
        "folder {path} belongs to user {owner}, not to user {user} as whom this runs; choose another or give it over"
    )]
    Owner {
        /// Which folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// No socket can be bound there.
    #[error(
        "socket path {path} has {length} bytes, Unix sockets take {MAX_SOCKET_PATH} at most; choose a shorter --run-dir"
    )]
    SocketPath {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// Another agent runs there.
    #[error("folder {path} is in use by another agent; give each its own --run-dir and --data-dir")]
    InUse {
        /// Which folder.
        path: PathBuf,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError::Io { action, path: path.to_owned(), source }
}

/// Makes a folder (with its parents) that only this user may enter, or closes an existing one.
pub fn private_dir(path: &Path) -> Result<(), FileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("cannot make folder", path))?;
    let metadata = fs::metadata(path).map_err(failed("cannot look at folder", path))?;
    let user = geteuid().as_raw();
    if metadata.uid() != user {
        return Err(FileError::Owner { path: path.to_owned(), owner: metadata.uid(), user });
    }
    fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed("cannot close folder", path))
}

/// Takes a folder for this process, until the returned file is dropped.
pub fn lock_dir(path: &Path) -> Result<File, FileError> {
    let file = path.join("lock");
    let lock = File::create(&file).map_err(failed("cannot make", &file))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(FileError::InUse { path: path.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(failed("cannot lock", &file)(source)),
    }
}

/// Replaces a file by these bytes, readable for this user only, and has them on disk when it returns.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, |_| Ok(()))
}

/// The same; `open` gives it to others, before anybody finds it under its name.
pub fn write(path: &Path, bytes: &[u8], open: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    // Made with mode 0600.
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    open(file.as_file())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// Removes what an earlier process left at a path; nothing there is fine.
pub fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A socket's path in a folder, if it is short enough.
pub fn socket_path(folder: &Path, name: &str) -> Result<PathBuf, FileError> {
    let path = folder.join(name);
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH { Err(FileError::SocketPath { path, length }) } else { Ok(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_is_for_this_user_only_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_open_folder_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        private_dir(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_folder_has_one_agent() {
        let folder = tempfile::tempdir().unwrap();
        let lock = lock_dir(folder.path()).unwrap();
        assert!(matches!(lock_dir(folder.path()), Err(FileError::InUse { .. })));
        drop(lock);
        lock_dir(folder.path()).unwrap();
    }

    #[test]
    fn a_socket_path_of_107_bytes_is_the_longest() {
        let folder = PathBuf::from(format!("/{}", "d".repeat(100)));
        assert_eq!(socket_path(&folder, "12345").unwrap().as_os_str().len(), 107);
        let error = socket_path(&folder, "123456").unwrap_err().to_string();
        assert!(error.contains("has 108 bytes") && error.contains("--run-dir"), "{error}");
    }
}
