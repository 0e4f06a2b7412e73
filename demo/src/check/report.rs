//! The table of the steps.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// What a step has seen, when it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// In words, with figures.
    pub what: String,
    /// From the return of the change to its effect, by zone; empty for a step that changes nothing.
    pub effect: BTreeMap<String, Duration>,
}

/// A step's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The step.
    pub step: String,
    /// `None` if it was not played; the error is the reason in one line or several.
    pub outcome: Option<Result<Seen, String>>,
}

/// All rows, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// A row a step, by the step's number.
    pub rows: BTreeMap<u8, Row>,
}

impl Report {
    /// Adds a step's row.
    pub fn add(&mut self, number: u8, step: &str, outcome: Option<anyhow::Result<Seen>>) {
        let outcome = outcome.map(|outcome| outcome.map_err(|error| format!("{error:#}")));
        self.rows.insert(number, Row { step: step.to_owned(), outcome });
    }

    /// Whether every step was played and holds.
    pub fn holds(&self) -> bool {
        self.rows.values().all(|row| matches!(row.outcome, Some(Ok(_))))
    }

    /// As people read it.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (number, row) in &self.rows {
            let (mark, what, effect) = match &row.outcome {
                Some(Ok(seen)) => ("ok  ", seen.what.as_str(), times(&seen.effect)),
                Some(Err(reason)) => ("FAIL", reason.as_str(), String::new()),
                None => ("-   ", "not played", String::new()),
            };
            let _ = writeln!(text, "{number:>2} {mark} {}", row.step);
            for line in what.lines().chain(Some(effect.as_str()).filter(|effect| !effect.is_empty())) {
                let _ = writeln!(text, "        {line}");
            }
        }
        let held = self.rows.values().filter(|row| matches!(row.outcome, Some(Ok(_)))).count();
        let _ = write!(text, "{held} of {} steps hold", self.rows.len());
        text
    }
}

fn times(effect: &BTreeMap<String, Duration>) -> String {
    if effect.is_empty() {
        return String::new();
    }
    let times: Vec<String> =
        effect.iter().map(|(zone, time)| format!("{zone} {} ms", time.as_millis())).collect();
    format!("in force after: {}", times.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        Seen { what: "5 of 5".into(), effect: BTreeMap::from([("aws".into(), Duration::from_millis(12))]) }
    }

    #[test]
    fn a_report_holds_only_if_every_step_was_played_and_holds() {
        let mut report = Report::default();
        report.add(1, "first", Some(Ok(seen())));
        assert!(report.holds());
        report.add(3, "second", Some(Err(anyhow::anyhow!("got 3").context("five wanted"))));
        assert!(!report.holds());
        report.add(2, "third", None);
        assert!(!report.holds());
        let expected = " 1 ok   first\n        5 of 5\n        in force after: aws 12 ms\n 2 -    third\n        not played\n \
                        3 FAIL second\n        five wanted: got 3\n1 of 3 steps hold";
        assert_eq!(report.table(), expected);
    }
}
