//! Two reports side by side.

use std::fmt::Write as _;

use crate::figures::Figure;
use crate::report::{Report, columns, short, title};

/// What differs from a report to a later one: a row a figure, with the ratio of new to old.
pub fn compare(old: &Report, new: &Report) -> String {
    let mut text = format!("old: {}\nnew: {}\n", old.machine, new.machine);
    for run in &new.runs {
        let _ = writeln!(text, "\n{} with {} {}", run.scenario, run.size, run.counts);
        let before = old.runs.iter().find(|other| other.scenario == run.scenario && other.size == run.size);
        let Some(before) = before else {
            text += "  not in the old report\n";
            continue;
        };
        let mut rows = vec![
            ["", "old", "new", "new / old", "p99 old", "p99 new", "new / old", ""]
                .map(str::to_owned)
                .to_vec(),
        ];
        for figure in &run.figures {
            let Some(old) = before.figures.iter().find(|other| other.name == figure.name) else {
                rows.push(vec![title(figure), "–".into(), short(figure.median)]);
                continue;
            };
            rows.push(row(old, figure));
        }
        text += &columns(&rows);
    }
    for run in &old.runs {
        if !new.runs.iter().any(|other| other.scenario == run.scenario && other.size == run.size) {
            let (scenario, size, counts) = (&run.scenario, run.size, &run.counts);
            let _ = writeln!(text, "\n{scenario} with {size} {counts}: not in the new report");
        }
    }
    text
}

fn row(old: &Figure, new: &Figure) -> Vec<String> {
    let spread = if new.is_spread() || old.is_spread() {
        [short(old.p99), short(new.p99), ratio(old.p99, new.p99)]
    } else {
        Default::default()
    };
    let medians = [title(new), short(old.median), short(new.median), ratio(old.median, new.median)];
    let note = if overlap(&old.repetitions, &new.repetitions) { "within the repetitions' range" } else { "" };
    medians.into_iter().chain(spread).chain([note.to_owned()]).collect()
}

fn ratio(old: f64, new: f64) -> String {
    match (old == 0.0, new == 0.0) {
        (true, true) => "1.00".into(),
        (true, false) => "–".into(),
        _ => format!("{:.2}", new / old),
    }
}

/// Whether repetitions of both lie in one another's range: then the difference may be chance.
fn overlap(old: &[f64], new: &[f64]) -> bool {
    let range = |all: &[f64]| {
        let low = all.iter().copied().fold(f64::INFINITY, f64::min);
        (low, all.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    };
    let (old, new) = (range(old), range(new));
    old.0 <= new.1 && new.0 <= old.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Measure, Sheet};
    use crate::machine;
    use crate::report::Run;

    fn report(size: usize, samples: &[f64]) -> Report {
        let mut sheet = Sheet::default();
        for sample in samples {
            sheet.next_repetition();
            sheet.one(Measure { name: "connect all", unit: "s" }, *sample);
        }
        let (scenario, counts) = ("sparse".to_owned(), "dataplanes".to_owned());
        Report {
            machine: machine::describe(),
            runs: vec![Run { scenario, size, counts, figures: sheet.figures() }],
        }
    }

    #[test]
    fn the_same_figure_is_compared_and_what_has_no_partner_is_named() {
        let text = compare(&report(100, &[2.0, 2.1, 2.2]), &report(100, &[1.0, 1.05, 1.1]));
        let row = text.lines().find(|line| line.starts_with("connect all, s")).unwrap();
        assert_eq!(
            row.split_whitespace().skip(3).collect::<Vec<_>>(),
            ["2.10", "1.05", "0.50"],
            "no remark on chance: {text}"
        );
        let text = compare(&report(100, &[2.0]), &report(500, &[1.0]));
        assert!(text.contains("sparse with 500 dataplanes\n  not in the old report"), "{text}");
        assert!(text.contains("sparse with 100 dataplanes: not in the new report"), "{text}");
    }

    #[test]
    fn what_may_be_chance_is_said_so() {
        let text = compare(&report(100, &[2.0, 3.0]), &report(100, &[2.5, 2.6]));
        assert!(text.contains("within the repetitions' range"), "{text}");
    }
}
