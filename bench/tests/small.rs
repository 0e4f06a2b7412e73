//! A run that is small enough for the test suite: every figure is there, and none is nonsense.
#![allow(clippy::unwrap_used, reason = "tests")]

use ursa_bench::figures::Latency;
use ursa_bench::machine;
use ursa_bench::report::Report;
use ursa_bench::run::{Effort, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_small_run_has_every_figure() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let effort = Effort { dataplanes: 20, changes: 2, no_ops: 3 };
    let folder = tempfile::tempdir().unwrap();
    let figures = run(effort, &folder.path().join("state")).await.unwrap();
    let report = Report { machine: machine::describe(), runs: vec![figures.clone()] };
    println!("{}", report.table());
    let in_order = |Latency { p50, p99, max }: Latency| 0.0 < p50 && p50 <= p99 && p99 <= max;
    for (what, latency) in [
        ("policy", figures.policy_change),
        ("route", figures.route_change),
        ("endpoint", figures.endpoint_change),
        ("far zone", figures.far_zone),
    ] {
        assert!(in_order(latency), "{what}: {latency:?}");
    }
    assert_eq!((figures.dataplanes, figures.services), (20, 2));
    assert!(figures.connect_all_seconds > 0.0 && figures.memory_per_proxy_kib > 0.0, "{figures:?}");
    assert!(figures.endpoint_change_proxies >= 1.0 && figures.endpoint_change_bytes > 0.0, "{figures:?}");
    assert_eq!(figures.no_op_responses, 0);
    assert!(!folder.path().join("state").exists(), "the state is removed");
}
