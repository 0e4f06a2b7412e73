//! The environment variables that ursactl reads, once. One that is empty counts as not set.

use std::ffi::OsString;
use std::path::PathBuf;

/// Variables that are set.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    /// `HOME`.
    pub(crate) home: Option<PathBuf>,
    /// `URSA_CONFIG`.
    pub(crate) config_file: Option<PathBuf>,
    /// `URSA_API`.
    pub(crate) api: Option<String>,
    /// `URSA_TOKEN_FILE`.
    pub(crate) token_file: Option<PathBuf>,
    /// `URSA_CA_FILE`.
    pub(crate) ca_file: Option<PathBuf>,
}

impl Environment {
    /// Those of this process.
    pub(crate) fn of_process() -> Self {
        let set =
            |name: &str| -> Option<OsString> { std::env::var_os(name).filter(|value| !value.is_empty()) };
        Self {
            home: set("HOME").map(PathBuf::from),
            config_file: set("URSA_CONFIG").map(PathBuf::from),
            // What is not UTF-8 is no URL either way.
            api: set("URSA_API").map(|value| value.to_string_lossy().into_owned()),
            token_file: set("URSA_TOKEN_FILE").map(PathBuf::from),
            ca_file: set("URSA_CA_FILE").map(PathBuf::from),
        }
    }
}
