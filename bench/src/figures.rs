//! Samples of several repetitions, and what they come to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is measured, and in what unit (empty: a number of something).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Its name, unique in a scenario.
    pub name: &'static str,
    /// `s`, `ms`, `MiB`, `KiB`, `B`, …
    pub unit: &'static str,
}

/// What the samples of a measure come to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// As its [`Measure`].
    pub name: String,
    /// As its [`Measure`].
    pub unit: String,
    /// The median of the repetitions' medians.
    pub median: f64,
    /// Half of all samples are not greater.
    pub p50: f64,
    /// 99 of 100 samples are not greater.
    pub p99: f64,
    /// The greatest of all samples.
    pub max: f64,
    /// How many samples there are.
    pub samples: usize,
    /// The median of each repetition.
    pub repetitions: Vec<f64>,
}

impl Figure {
    /// Whether a repetition has more than one sample.
    pub fn is_spread(&self) -> bool {
        self.samples > self.repetitions.len()
    }
}

/// Samples as they come.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    repetition: usize,
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    measure: Measure,
    /// (repetition, samples).
    samples: Vec<(usize, Vec<f64>)>,
}

impl Sheet {
    /// What comes from now on belongs to the next repetition.
    pub fn next_repetition(&mut self) {
        self.repetition += 1;
    }

    /// Takes samples.
    pub fn add(&mut self, measure: Measure, samples: impl IntoIterator<Item = f64>) {
        let repetition = self.repetition;
        let at = self.rows.iter().position(|row| row.measure == measure).unwrap_or_else(|| {
            self.rows.push(Row { measure, samples: Vec::new() });
            self.rows.len() - 1
        });
        let row = &mut self.rows[at].samples;
        if row.last().is_none_or(|(last, _)| *last != repetition) {
            row.push((repetition, Vec::new()));
        }
        if let Some((_, last)) = row.last_mut() {
            last.extend(samples);
        }
    }

    /// Takes one sample.
    pub fn one(&mut self, measure: Measure, sample: f64) {
        self.add(measure, [sample]);
    }

    /// Takes durations, in milliseconds.
    pub fn times(&mut self, measure: Measure, samples: &[Duration]) {
        self.add(measure, samples.iter().map(|duration| milliseconds(*duration)));
    }

    /// What they come to, in the order in which they came first.
    pub fn figures(&self) -> Vec<Figure> {
        self.rows.iter().map(Row::figure).collect()
    }

    /// The figure of one measure.
    pub fn figure(&self, measure: Measure) -> Option<Figure> {
        self.rows.iter().find(|row| row.measure == measure).map(Row::figure)
    }
}

impl Row {
    fn figure(&self) -> Figure {
        let repetitions: Vec<f64> =
            self.samples.iter().map(|(_, samples)| quantile(&sorted(samples), 0.5)).collect();
        let all: Vec<f64> = self.samples.iter().flat_map(|(_, samples)| samples.iter().copied()).collect();
        let all = sorted(&all);
        Figure {
            name: self.measure.name.to_owned(),
            unit: self.measure.unit.to_owned(),
            median: quantile(&sorted(&repetitions), 0.5),
            p50: quantile(&all, 0.5),
            p99: quantile(&all, 0.99),
            max: quantile(&all, 1.0),
            samples: all.len(),
            repetitions,
        }
    }
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The smallest sample that this part of all is not greater than; 0 of none.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a position among at most millions"
    )]
    let position = ((sorted.len() as f64 * part).ceil() as usize).max(1) - 1;
    sorted.get(position).copied().unwrap_or_default()
}

/// The slowest against the median: 1 if all are alike; 0 of none.
pub fn unevenness(waits: &[Duration]) -> f64 {
    let waits = sorted(&waits.iter().map(Duration::as_secs_f64).collect::<Vec<_>>());
    let median = quantile(&waits, 0.5);
    if median > 0.0 { quantile(&waits, 1.0) / median } else { 0.0 }
}

/// As a figure.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
pub fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: Measure = Measure { name: "m", unit: "ms" };

    #[test]
    fn a_figure_is_the_median_of_repetitions_and_the_spread_of_all_samples() {
        let mut sheet = Sheet::default();
        for samples in [vec![1.0, 2.0, 3.0], vec![7.0, 8.0, 9.0], vec![4.0, 5.0, 100.0]] {
            sheet.next_repetition();
            sheet.add(M, samples);
        }
        let figure = sheet.figure(M).unwrap();
        assert_eq!(figure.repetitions, [2.0, 8.0, 5.0]);
        assert_eq!((figure.median, figure.p50, figure.p99, figure.max), (5.0, 5.0, 100.0, 100.0));
        assert_eq!((figure.samples, figure.is_spread()), (9, true));
    }

    #[test]
    fn samples_of_one_repetition_may_come_in_parts_and_none_is_zero() {
        let mut sheet = Sheet::default();
        sheet.one(M, 3.0);
        sheet.one(M, 1.0);
        assert_eq!(sheet.figure(M).unwrap().repetitions, [1.0]);
        sheet.next_repetition();
        sheet.add(M, []);
        assert_eq!(sheet.figure(M).unwrap().repetitions, [1.0, 0.0]);
        assert_eq!(Sheet::default().figure(M), None);
    }

    #[test]
    fn the_slowest_is_compared_with_the_median() {
        let waits = [1, 2, 6].map(Duration::from_millis);
        assert!((unevenness(&waits) - 3.0).abs() < 1e-9);
        assert!(unevenness(&[]).abs() < 1e-9);
    }
}
