//! What the figures were measured on.

use std::{fmt, fs};

use serde::{Deserialize, Serialize};

/// A machine, and when.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Processors that the system may use.
    pub cores: usize,
    /// Memory in bytes.
    pub memory: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The day.
    pub date: String,
    /// Ursa's version.
    pub version: String,
    /// How the programs were compiled.
    pub profile: String,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, memory, kernel, date, version, profile } = self;
        let memory = memory >> 30;
        write!(f, "{cpu}, {cores} cores, {memory} GiB, Linux {kernel}; Ursa {version} ({profile}), {date}")
    }
}

/// This machine, now.
pub fn describe() -> Machine {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let kib = field("/proc/meminfo", "MemTotal");
    let kib: u64 = kib.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or_default();
    Machine {
        cpu: field("/proc/cpuinfo", "model name"),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory: kib * 1024,
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        date: jiff::Zoned::now().date().to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        profile: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
    }
}
