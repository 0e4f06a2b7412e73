//! What can go wrong.

use std::path::PathBuf;

use ursa_crds::ObjectKey;

/// Why a write was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The object is not what the writer believes.
    #[error("{key} is not at resource version {expected}: {}", match actual { 0 => "it does not exist".to_owned(), n => format!("it is at {n}") })]
    Conflict {
        /// Which object.
        key: Box<ObjectKey>,
        /// What the writer expected.
        expected: u64,
        /// What is stored; 0: nothing.
        actual: u64,
    },
    /// There is none.
    #[error("{0} does not exist")]
    NotFound(Box<ObjectKey>),
    /// The disk failed.
    #[error("the store cannot write: {0}")]
    Disk(String),
    /// The API server does not want it.
    #[error("{0}")]
    Refused(String),
    /// The API server cannot be used now.
    #[error("the API server cannot be used: {0}")]
    Unreachable(String),
    /// The store has ended.
    #[error("the store is closed")]
    Closed,
}

/// Why a file cannot be opened as a store. The file was left as it is.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{path}: another process has the store open; end that one, or give this one a folder of its own")]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// It is not what was written.
    #[error(
        "{path}: the store is damaged: {reason}. Restore the file from a backup; or, to start empty on purpose, move it away"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another version of the program wrote it.
    #[error(
        "{path}: the store has the format {found:?}, and this version reads {expected:?} only. Start the version that wrote it, or restore a backup of this version's"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The format that the file names.
        found: String,
        /// The format that is read.
        expected: &'static str,
    },
    /// A later version of the program wrote it.
    #[error(
        "{path}: the store was written by version {version} (schema {found}), and this version understands schemas up to {understood}: what it does not know it would lose. Start version {version} again, or restore a backup of this version's"
    )]
    Later {
        /// The file.
        path: PathBuf,
        /// The schema of what it holds.
        found: u32,
        /// The version that wrote it last.
        version: String,
        /// The newest schema that is understood.
        understood: u32,
    },
    /// It cannot be read or made.
    #[error("{path}: the store cannot be opened: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: std::io::Error,
    },
}
