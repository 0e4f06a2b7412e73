//! The figures for people and for programs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::figures::Figure;
use crate::machine::Machine;

/// All runs on a machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// Of each scenario and size.
    pub runs: Vec<Run>,
}

/// A scenario in a size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its name.
    pub scenario: String,
    /// Its size.
    pub size: usize,
    /// What the size counts.
    pub counts: String,
    /// What was measured.
    pub figures: Vec<Figure>,
}

impl Report {
    /// From a file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no report of ursa-bench", path.display()))
    }

    /// Into a file, whose folder is made.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let text = serde_json::to_string_pretty(self).context("cannot encode the figures")?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }

    /// As people read it: a table a scenario, a column a size.
    pub fn table(&self) -> String {
        let mut text = format!("{}\n", self.machine);
        let mut scenarios: Vec<&str> = Vec::new();
        for run in &self.runs {
            if !scenarios.contains(&run.scenario.as_str()) {
                scenarios.push(&run.scenario);
            }
        }
        for scenario in scenarios {
            let runs: Vec<&Run> = self.runs.iter().filter(|run| run.scenario == scenario).collect();
            let _ = write!(text, "\n{scenario}\n{}", table(&runs));
        }
        text
    }
}

/// A figure's row in tables: name and unit.
pub fn title(figure: &Figure) -> String {
    if figure.unit.is_empty() { figure.name.clone() } else { format!("{}, {}", figure.name, figure.unit) }
}

/// A figure in a table: `median` of repetitions that have one sample each, `p50 / p99 / max` of others.
fn cell(figure: &Figure) -> String {
    if figure.is_spread() {
        format!("{} / {} / {}", short(figure.p50), short(figure.p99), short(figure.max))
    } else {
        short(figure.median)
    }
}

/// Three digits that count, at least.
pub fn short(value: f64) -> String {
    let digits = match value.abs() {
        size if size == 0.0 || size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

fn table(runs: &[&Run]) -> String {
    let mut names: Vec<(&str, String)> = Vec::new();
    for figure in runs.iter().flat_map(|run| &run.figures) {
        if !names.iter().any(|(name, _)| *name == figure.name) {
            names.push((&figure.name, title(figure)));
        }
    }
    let counts = runs.first().map_or("", |run| run.counts.as_str()).to_owned();
    let mut rows = vec![std::iter::once(counts).chain(runs.iter().map(|run| run.size.to_string())).collect()];
    for (name, title) in names {
        let of = |run: &&Run| run.figures.iter().find(|figure| figure.name == name).map(cell);
        let cells = runs.iter().map(|run| of(run).unwrap_or_default());
        rows.push(std::iter::once(title).chain(cells).collect());
    }
    columns(&rows)
}

/// Rows of cells as aligned text: the first column to the left, all others to the right.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_three_digits_and_columns_are_aligned() {
        assert_eq!([0.0, 0.01234, 1.5, 23.456, 1234.5].map(short), ["0", "0.012", "1.50", "23.5", "1234"]);
        let rows = [vec!["a".to_owned(), "10".to_owned()], vec!["long".to_owned(), "1".to_owned()]];
        assert_eq!(columns(&rows), "a      10\nlong    1\n");
    }
}
