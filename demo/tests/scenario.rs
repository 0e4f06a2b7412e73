//! The scenario of `make demo-check`, played by the test suite with the same code.

use std::path::Path;
use std::sync::Arc;

use ursa_demo::process::Tell;
use ursa_demo::{Demo, Options, check};

/// On a thread of its own that lives as long as the demo's processes.
#[tokio::test]
async fn every_step_of_the_scenario_holds() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
    let options = Options {
        state_dir: Path::new(env!("CARGO_TARGET_TMPDIR")).join("scenario"),
        envoy: None,
        base: 200,
        under_make: false,
    };
    let tell: Tell = Arc::new(|line: &str| println!("{line}"));
    let mut demo = Demo::prepare(&options, tell.clone()).unwrap();
    let report = check::play(&mut demo, &tell).await;
    demo.end().await;
    let report = report.unwrap();
    println!("{}", report.table());
    assert!(report.holds(), "{}", report.table());
}
