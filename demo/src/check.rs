//! The talk's scenario, played against a demo: steps in order, each with what must hold.
//!
//! Invariant: a step that fails is in the report with its reason, and the steps after it, which build on it, are not
//! played.

mod answer;
mod effect;
mod fresh;
mod intruders;
mod report;
mod steps;

use futures::future::LocalBoxFuture;

pub use report::{Report, Row, Seen};

use crate::Demo;
use crate::process::Tell;
use intruders::Intruders;

/// What the steps share.
struct Stage<'a> {
    demo: &'a mut Demo,
    /// Those who try to get in, from the moment at which mutual TLS is on.
    intruders: Option<Intruders>,
}

/// What a step answers: what was seen, or why it does not hold.
type Played<'a> = LocalBoxFuture<'a, anyhow::Result<Seen>>;

/// A step of the scenario.
struct Step {
    /// Its number in the talk.
    number: u8,
    /// What is done and what must hold.
    name: &'static str,
    play: for<'a> fn(&'a mut Stage<'_>) -> Played<'a>,
}

/// The scenario. Intruders are busy throughout: what they got is asked last.
const STEPS: &[Step] = &[
    Step {
        number: 1,
        name: "fresh mesh: each demo-app counts in the redis of its own zone",
        play: |stage| Box::pin(fresh::play(stage.demo)),
    },
    Step {
        number: 2,
        name: "mutual TLS on: everything is refused (default deny)",
        play: |stage| Box::pin(steps::mutual_tls(stage)),
    },
    Step {
        number: 3,
        name: "TrafficPermission allow-all: traffic reaches all three zones",
        play: |stage| Box::pin(steps::allow_all(stage.demo)),
    },
    Step {
        number: 4,
        name: "TrafficRoute to zone east: every request lands there",
        play: |stage| Box::pin(steps::all_to_east(stage.demo)),
    },
    Step {
        number: 5,
        name: "the route split 50/50 between aws and east",
        play: |stage| Box::pin(steps::half_and_half(stage.demo)),
    },
    Step {
        number: 6,
        name: "permission for zone east only; then a Deny wins over allow-all",
        play: |stage| Box::pin(steps::narrowed(stage.demo)),
    },
    Step {
        number: 7,
        name: "route and Deny deleted: spread over all zones again",
        play: |stage| Box::pin(steps::spread_again(stage.demo)),
    },
    Step {
        number: 9,
        name: "blue/green: all traffic to redis v2 in one zone and back",
        play: |stage| Box::pin(steps::versions(stage.demo)),
    },
    Step {
        number: 8,
        name: "throughout: no intruder gets one byte from redis",
        play: |stage| Box::pin(steps::nobody_got_in(stage)),
    },
];

/// Brings the demo up and plays all steps, telling of each. An error means that it did not come up.
pub async fn play(demo: &mut Demo, tell: &Tell) -> anyhow::Result<Report> {
    demo.bring_up().await?;
    let mut stage = Stage { demo, intruders: None };
    let mut report = Report::default();
    for step in STEPS {
        tell(&format!("step {}: {}", step.number, step.name));
        let outcome = if report.holds() { Some((step.play)(&mut stage).await) } else { None };
        report.add(step.number, step.name, outcome);
    }
    Ok(report)
}
