//! The figures for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use crate::figures::{Figures, Latency};
use crate::machine::Machine;

/// All runs on a machine.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// A run a size.
    pub runs: Vec<Figures>,
}

/// A row: what it is, its unit, and its cell for a run.
type Row = (&'static str, fn(&Figures) -> String);

const ROWS: &[Row] = &[
    ("services", |run| run.services.to_string()),
    ("connect all, s", |run| format!("{:.2}", run.connect_all_seconds)),
    ("connect all, CPU s", |run| format!("{:.2}", run.connect_all_cpu_seconds)),
    ("policy change to last ACK, ms: p50 / p99 / max", |run| latency(run.policy_change)),
    ("policy change, CPU s", |run| format!("{:.3}", run.policy_change_cpu_seconds)),
    ("route change to last ACK, ms: p50 / p99 / max", |run| latency(run.route_change)),
    ("endpoint change to last ACK, ms: p50 / p99 / max", |run| latency(run.endpoint_change)),
    ("endpoint change, CPU s", |run| format!("{:.3}", run.endpoint_change_cpu_seconds)),
    ("endpoint change: proxies concerned", |run| format!("{:.0}", run.endpoint_change_proxies)),
    ("endpoint change: bytes sent in all", |run| format!("{:.0}", run.endpoint_change_bytes)),
    ("global apply to far zone's ACK, ms: p50 / p99 / max", |run| latency(run.far_zone)),
    ("responses on no-op churn", |run| run.no_op_responses.to_string()),
    ("control plane memory a proxy, KiB", |run| format!("{:.0}", run.memory_per_proxy_kib)),
];

fn latency(Latency { p50, p99, max }: Latency) -> String {
    format!("{p50:.0} / {p99:.0} / {max:.0}")
}

impl Report {
    /// As people read it: a column a run.
    pub fn table(&self) -> String {
        let Machine { cpu, cores, memory, kernel, date, version, profile } = &self.machine;
        let mut text = format!(
            "{cpu}, {cores} cores, {} GiB, Linux {kernel}; Ursa {version} ({profile}), {date}\n\n",
            memory >> 30
        );
        let titles = std::iter::once("dataplanes".to_owned())
            .chain(self.runs.iter().map(|run| run.dataplanes.to_string()))
            .collect();
        let rows = ROWS.iter().map(|(name, cell)| {
            std::iter::once((*name).to_owned()).chain(self.runs.iter().map(cell)).collect::<Vec<_>>()
        });
        let all: Vec<Vec<String>> = std::iter::once(titles).chain(rows).collect();
        let widths: Vec<usize> = (0..=self.runs.len())
            .map(|column| all.iter().map(|row| row[column].chars().count()).max().unwrap_or_default())
            .collect();
        for row in &all {
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                let _ = if column == 0 {
                    write!(text, "{cell:<width$}")
                } else {
                    write!(text, "   {cell:>width$}")
                };
            }
            text.push('\n');
        }
        text
    }
}
