//! Traffic follows the control plane.

use ursa_model::Balancer;

use crate::agent::Agent;
use crate::mesh::{LOCALHOST, Model, answers, echo, free_port, talk};
use crate::plane::Plane;
use crate::wait::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn traffic_follows_the_control_plane() {
    let (one, two) = (echo("one").await, echo("two").await);
    let port = free_port();
    let plane = Plane::start(Model::new().outbound(port, "echo", one).resources()).await;
    let agent = Agent::start(&plane);
    answers(port, "one").await;
    plane.sees_all_acknowledged(&[]).await;
    plane.see(|state| {
        assert_eq!(state.hellos.len(), 1);
        assert_eq!(state.hellos[0].resource, crate::agent::DATAPLANE.as_bytes());
        assert_eq!(state.hellos[0].envoy_version, "1.40.0");
    });
    // Another instance.
    plane.set(|state| state.resources = Model::new().outbound(port, "echo", two).resources());
    answers(port, "two").await;
    // Another service at another port; the first goes.
    let other = free_port();
    plane.set(|state| state.resources = Model::new().outbound(other, "other", one).resources());
    answers(other, "one").await;
    eventually("the first port is closed", async || talk(port).await.is_none().then_some(())).await;
    plane.sees_all_acknowledged(&[]).await;
    eventually("the old cluster has gone", async || {
        let clusters = agent.admin("/clusters").await?;
        (!clusters.contains("default/echo") && clusters.contains("default/other")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_cluster_does_not_wait_for_its_endpoints() {
    let one = echo("one").await;
    let port = free_port();
    let model = |balancer| Model::new().outbound_at(LOCALHOST, port, "echo", one, balancer).resources();
    let plane = Plane::start(model(Balancer::RoundRobin)).await;
    let agent = Agent::start(&plane);
    answers(port, "one").await;
    let stat = async |name: &str| {
        let stats = agent.admin(&format!("/stats?filter=^cluster_manager\\.{name}$")).await?;
        stats.trim().rsplit_once(' ')?.1.parse::<u64>().ok()
    };
    let changes = stat("cluster_modified").await.unwrap();
    for (round, balancer) in
        [Balancer::LeastRequest, Balancer::Random, Balancer::RoundRobin].into_iter().enumerate()
    {
        let before = std::time::Instant::now();
        plane.set(|state| state.resources = model(balancer));
        eventually("the change is in force", async || {
            let modified = stat("cluster_modified").await? - changes;
            let warming = stat("warming_clusters").await?;
            (modified == u64::try_from(round).unwrap() + 1 && warming == 0).then_some(())
        })
        .await;
        // Without its endpoints it would warm for 15 s.
        let took = before.elapsed();
        println!("round {round}: in force after {took:?}");
        assert!(took.as_secs() < 10, "{took:?}");
        answers(port, "one").await;
    }
}
