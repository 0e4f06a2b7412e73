//! Who may talk to whom, and what is wrong from the start.

use std::process::Command;

use tonic::Status;

use crate::agent::{Agent, DATAPLANE};
use crate::mesh::Model;
use crate::plane::{NODE_ID, Plane, TOKEN};
use crate::wait::eventually;

/// What a command that must fail says.
fn fails(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_the_ca_file_does_not_vouch_for_is_not_talked_to() {
    let plane = Plane::start(Model::new().resources()).await;
    let other = Plane::start(Model::new().resources()).await;
    let mut agent = Agent::new(&plane, DATAPLANE);
    std::fs::write(agent.path("ca.pem"), other.ca_pem()).unwrap();
    agent.run();
    eventually("the agent says why", async || agent.log().contains("invalid peer certificate").then_some(()))
        .await;
    assert_eq!(plane.see(|state| state.hellos.len()), 0);
    // The file is read anew for each connection.
    std::fs::write(agent.path("ca.pem"), plane.ca_pem()).unwrap();
    plane.sees("a session", |state| (state.hellos.len() == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_said_and_a_renewed_one_is_tried() {
    let plane = Plane::start(Model::new().resources()).await;
    let mut agent = Agent::new(&plane, DATAPLANE);
    std::fs::write(agent.path("token"), "wrong").unwrap();
    agent.run();
    eventually("the agent says why", async || agent.log().contains("the token is not valid").then_some(()))
        .await;
    std::fs::write(agent.path("token"), format!("{TOKEN}\n")).unwrap();
    plane.sees("a session", |state| (state.hellos.len() == 1).then_some(())).await;
    assert!(!agent.log().contains("wrong") && !agent.log().contains(TOKEN), "a token is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_resource_is_said_in_the_control_planes_words() {
    let plane = Plane::start(Model::new().resources()).await;
    plane.set(|state| {
        state.refusal = Some(Status::invalid_argument("spec.networking.inbound: must not be empty"));
    });
    let agent = Agent::start(&plane);
    eventually("the agent says why", async || {
        agent.log().contains("spec.networking.inbound: must not be empty").then_some(())
    })
    .await;
    plane.set(|state| state.refusal = None);
    plane.sees("a stream of the proxy", |state| (!state.held.is_empty()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_ends_with_a_reason() {
    let plane = Plane::start(Model::new().resources()).await;
    let long = std::env::temp_dir().join("d".repeat(100));
    let said = fails(&mut Agent::new(&plane, DATAPLANE).in_run_dir(long.clone()).command());
    assert!(said.contains("Unix sockets take 107 at most") && !long.exists(), "{said}");
    let cases = [
        ("dataplane.yaml", "kind: Mesh\nmetadata: {name: m}\nspec: {networking: {}}\n", "holds no Dataplane"),
        ("ca.pem", "nothing", "holds no certificate"),
    ];
    for (file, content, expected) in cases {
        let agent = Agent::new(&plane, DATAPLANE);
        std::fs::write(agent.path(file), content).unwrap();
        let said = fails(&mut agent.command());
        assert!(said.contains(expected) && said.contains(file), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_serves_one_agent() {
    let plane = Plane::start(Model::new().resources()).await;
    let agent = Agent::start(&plane);
    plane.sees("a session", |state| (state.hellos.len() == 1).then_some(())).await;
    agent.envoy().await; // by then all that it starts with is written
    let said = fails(&mut agent.command());
    assert!(said.contains("in use by another agent"), "{said}");
    let bootstrap = std::fs::read_to_string(agent.path("run/bootstrap.json")).unwrap();
    assert!(bootstrap.contains(NODE_ID));
}

#[tokio::test(flavor = "multi_thread")]
async fn people_read_what_envoy_has_and_change_nothing() {
    let plane = Plane::start(Model::new().resources()).await;
    let agent = Agent::start(&plane);
    let said = eventually("Envoy answers", async || {
        let output = agent.admin_command("/config_dump").output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    })
    .await;
    let dump: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(dump["configs"].as_array().is_some_and(|configs| !configs.is_empty()), "{said}");
    let refused = fails(&mut agent.admin_command("/quitquitquit"));
    assert!(refused.contains("status 405"), "{refused}");
    for path in ["config_dump", "/stats HTTP/1.1\r\n\r\nPOST /quitquitquit", ""] {
        let refused = fails(&mut agent.admin_command(path));
        assert!(refused.contains("is no path of Envoy's administration interface"), "{refused}");
    }
    assert!(agent.admin_command("/server_info").output().unwrap().status.success());
}
