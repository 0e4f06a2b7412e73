//! Which inbounds get traffic: those that Envoy serves and the application, too.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use tokio::net::TcpListener;
use ursa_model::InboundTls;

use crate::agent::{Agent, DATAPLANE};
use crate::mesh::{LOCALHOST, Model, echo, free_port};
use crate::plane::{Plane, authority};

/// A dataplane with one inbound.
fn dataplane(port: u16, inbound: &str) -> String {
    let inbound = format!("inbound: [{{port: {port}, tags: {{ursamesh.io/service: web}}, {inbound}}}]");
    DATAPLANE.replace("inbound: []", &inbound)
}

/// Waits until the agent has said this, and forgets what it said before.
async fn says(plane: &Plane, port: u16, ready: bool) {
    plane
        .sees(&format!("ready: {ready}"), |state| {
            let said = state.readiness.iter().position(|all| *all == [(u32::from(port), ready)].into());
            said.is_some().then_some(())
        })
        .await;
    plane.set(|state| {
        let said = state.readiness.iter().rposition(|all| *all == [(u32::from(port), ready)].into());
        state.readiness.drain(..=said.expect("it was seen"));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbound_is_ready_while_its_application_answers() {
    let (port, application) = (free_port(), free_port());
    let mut plane = Plane::start(Model::new().resources()).await;
    let probe = format!("servicePort: {application}, readinessProbe: {{tcp: {{}}, interval: 50ms}}");
    let mut agent = Agent::new(&plane, &dataplane(port, &probe));
    agent.run();
    says(&plane, port, false).await;
    let listener = TcpListener::bind((LOCALHOST, application)).await.unwrap();
    says(&plane, port, true).await;
    drop(listener);
    says(&plane, port, false).await;
    // A new session hears it, too.
    plane.stop();
    plane.resume().await;
    says(&plane, port, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbound_is_ready_once_envoy_serves_it() {
    let (application, port) = (echo("app").await, free_port());
    let authority = authority();
    let tls = InboundTls {
        trust: [("east.default.ursamesh.io".into(), authority.root_pem().into())].into(),
        allowed: vec![],
        permissive: false,
    };
    let plane = Plane::start(Model::new().inbound(port, application, Some(tls)).resources()).await;
    let mut agent = Agent::new(&plane, &dataplane(port, ""));
    agent.run();
    // Envoy has taken its listener, which waits for the certificate.
    plane.sees_all_acknowledged(&[]).await;
    says(&plane, port, false).await;
    plane.see(|state| assert_eq!(state.readiness, []));
    plane.set(|state| state.authority = Some((authority, Duration::from_hours(1))));
    says(&plane, port, true).await;
    // Without Envoy nothing serves; with the next one all does again.
    kill(agent.envoy().await, Signal::SIGKILL).unwrap();
    says(&plane, port, false).await;
    says(&plane, port, true).await;
    // What changes later does not take the inbound out.
    let changed = Model::new().inbound(port, echo("other").await, None).resources();
    plane.set(|state| state.resources = changed);
    plane.sees_all_acknowledged(&[]).await;
    plane.see(|state| assert_eq!(state.readiness, []));
}
