//! Each scenario, small enough for the test suite: what it says must be right, however long it takes.
#![allow(clippy::unwrap_used, reason = "tests")]

use ursa_bench::figures::{Figure, Measure};
use ursa_bench::machine;
use ursa_bench::measures as m;
use ursa_bench::report::{Report, Run};
use ursa_bench::scenario::{Effort, Scenario};

fn run(scenario: Scenario, size: usize) -> Run {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let effort = Effort { repeat: 1, changes: 1, seconds: 1 };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let run = runtime.block_on(scenario.run(size, &effort, &folder.path().join("state"))).unwrap();
    let report = Report { machine: machine::describe(), runs: vec![run.clone()] };
    println!("{}", report.table());
    assert!(!folder.path().join("state").exists(), "the state is removed");
    run
}

fn figure(run: &Run, measure: Measure) -> &Figure {
    let found = run.figures.iter().find(|figure| figure.name == measure.name);
    assert!(found.is_some(), "{} has no {}", run.scenario, measure.name);
    found.unwrap()
}

/// Something was measured, and its parts are in order.
fn sound(run: &Run, measures: &[Measure]) {
    for measure in measures {
        let figure = figure(run, *measure);
        let is_sound = figure.p50 > 0.0 && figure.p50 <= figure.p99 && figure.p99 <= figure.max;
        assert!(is_sound && figure.samples > 0, "{}: {figure:?}", run.scenario);
    }
}

fn zero(run: &Run, measure: Measure) {
    let figure = figure(run, measure);
    assert!(figure.max == 0.0 && figure.samples > 0, "{}: {figure:?}", run.scenario);
}

const CONNECTED: &[Measure] =
    &[m::CONNECT_ALL, m::CONNECT_WAIT, m::CONNECT_UNEVENNESS, m::CONNECT_CPU, m::CONNECT_WIRE];
const CHANGED: &[Measure] =
    &[m::POLICY, m::POLICY_BYTES, m::FAR_POLICY, m::ROUTE, m::ENDPOINT, m::ENDPOINT_BYTES];

/// All connect with certificates, each kind of change reaches whom it concerns and nobody else, and what changes nothing
/// causes nothing: else the run itself fails.
fn topology(scenario: Scenario, size: usize, callers: f64) {
    let run = run(scenario, size);
    sound(&run, CONNECTED);
    sound(&run, CHANGED);
    zero(&run, m::NO_OP_RESPONSES);
    let proxies = figure(&run, m::ENDPOINT_PROXIES);
    assert!((proxies.max - callers).abs() < 0.5, "{proxies:?}");
    assert_eq!(figure(&run, m::CONNECT_WAIT).samples, size);
    let (peak, settled) = (figure(&run, m::MEMORY_PEAK), figure(&run, m::MEMORY_SETTLED));
    assert!(peak.max >= settled.max && settled.max > 0.0, "{peak:?} {settled:?}");
}

#[test]
fn a_service_each() {
    topology(Scenario::Sparse, 20, 5.0);
}

#[test]
fn ten_instances_a_service() {
    topology(Scenario::Ten, 20, 20.0);
}

#[test]
fn everybody_calls_everybody() {
    topology(Scenario::Dense, 10, 10.0);
}

#[test]
fn several_meshes() {
    topology(Scenario::Meshes, 40, 4.0);
}

#[test]
fn zones_see_what_becomes_of_each_other() {
    let run = run(Scenario::Zones, 10);
    sound(&run, CONNECTED);
    sound(&run, CHANGED);
    sound(&run, &[m::FAR_ENDPOINT]);
    zero(&run, m::NO_OP_RESPONSES);
    assert_eq!(figure(&run, m::CONNECT_WAIT).samples, 30, "three zones");
}

#[test]
fn updates_that_change_nothing_and_instances_that_come_and_go() {
    let run = run(Scenario::Churn, 20);
    zero(&run, m::NO_OP_RESPONSES);
    sound(&run, &[m::NO_OP_RATE, m::NO_OP_WRITE]);
    sound(&run, &[m::CHURN_RATE, m::CHURN_LATENCY, m::CHURN_RESPONSES, m::CHURN_BYTES]);
    assert_eq!(figure(&run, m::NO_OP_WRITE).samples, 500, "every other update is a PUT");
}

#[test]
fn who_comes_back_after_a_restart_lacks_nothing() {
    let run = run(Scenario::Restart, 20);
    zero(&run, m::RECONNECT_RESOURCES);
    sound(&run, &[m::RESTART_READY, m::RECONNECT_ALL, m::RECONNECT_WAIT, m::RECONNECT_WIRE]);
    assert_eq!(figure(&run, m::RECONNECT_WAIT).samples, 20);
}

#[test]
fn nobody_waits_for_one_that_takes_nothing() {
    let run = run(Scenario::Stopped, 20);
    sound(&run, &[m::POLICY, m::POLICY_STOPPED, m::POLICY_UNREAD, m::CATCH_UP]);
    assert_eq!(figure(&run, m::POLICY_STOPPED).samples, 60, "three changes, acknowledged by all the others");
    assert_eq!(figure(&run, m::CATCH_UP).samples, 2, "after either way of taking nothing");
}

#[test]
fn a_start_over_what_is_stored() {
    let run = run(Scenario::Start, 50);
    sound(&run, &[m::START_READY, m::START_CLIENT, m::STORE_BYTES, m::MEMORY_SETTLED]);
}

#[test]
fn measures_have_names_of_their_own() {
    for (at, measure) in m::ALL.iter().enumerate() {
        assert!(!m::ALL[..at].iter().any(|other| other.name == measure.name), "{}", measure.name);
    }
}
