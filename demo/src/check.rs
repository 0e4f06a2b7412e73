//! The talk's scenario, played against a demo: steps in order, each with what must hold.
//!
//! Invariant: a step that fails is in the report with its reason, and the steps after it, which build on it, are not
//! played.

mod fresh;
mod report;

use std::pin::Pin;

pub use report::{Report, Row, Seen};

use crate::Demo;

/// What a step answers: what was seen, or why it does not hold.
type Played<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Seen>> + Send + 'a>>;

/// A step of the scenario.
struct Step {
    /// What is done and what must hold.
    name: &'static str,
    play: for<'a> fn(&'a Demo) -> Played<'a>,
}

/// The scenario.
const STEPS: &[Step] = &[Step {
    name: "fresh mesh: each demo-app counts in the redis of its own zone",
    play: |demo| Box::pin(fresh::play(demo)),
}];

/// Brings the demo up and plays all steps. An error means that it did not come up.
pub async fn play(demo: &mut Demo) -> anyhow::Result<Report> {
    demo.bring_up().await?;
    let mut report = Report::default();
    for step in STEPS {
        let outcome = if report.holds() { Some((step.play)(demo).await) } else { None };
        report.add(step.name, outcome);
    }
    Ok(report)
}
