//! A zone ingress has two replicas: one that ends without a word costs no HTTP call.

use ursa_e2e::kind::{Proxy, SOON, SYSTEM, distributed_to, kubectl, proxies};
use ursa_e2e::{eventually, rounds};

use super::world::{WEST, World};

const INGRESS: &str = "app.kubernetes.io/name=ursa-ingress";

/// Both replicas of the west's ingress, once they serve.
async fn both(world: &World) -> anyhow::Result<Vec<Proxy>> {
    eventually("both replicas of the ingress serve", SOON * 6, async || {
        let all = world.in_zone(WEST, proxies(SYSTEM, INGRESS)).await?;
        anyhow::ensure!(all.len() == 2 && all.iter().all(|proxy| proxy.ready), "{all:?}");
        // Else the one that is about to die may be the only one that the node knows.
        let distributed = distributed_to(WEST, "ingress-proxy").await?;
        let addresses = all.iter().map(|proxy| proxy.address.clone()).collect();
        anyhow::ensure!(
            distributed == addresses,
            "the node distributes to {distributed:?}, not {addresses:?}"
        );
        Ok(all)
    })
    .await
}

/// All its processes end at once, and it is started anew; its name.
async fn one_is_killed(world: &World) -> anyhow::Result<String> {
    let all = both(world).await?;
    let victim = &all[0];
    victim.kill()?;
    eventually("the kubelet starts it anew", SOON * 6, async || {
        let now = both(world).await?;
        let restarted = now.iter().any(|one| one.pod == victim.pod && one.restarts > victim.restarts);
        anyhow::ensure!(restarted, "{now:?}");
        Ok(victim.pod.clone())
    })
    .await
}

/// A pod is deleted, and given no time.
async fn is_deleted(world: &World, pod: &str) -> anyhow::Result<()> {
    let delete = ["--namespace", SYSTEM, "delete", "pod", pod, "--grace-period", "0", "--force"];
    world.in_zone(WEST, kubectl(&delete)).await?;
    let now = both(world).await?;
    anyhow::ensure!(now.iter().all(|one| one.pod != pod), "{now:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_of_an_ingress_that_dies_costs_no_call() -> anyhow::Result<()> {
    let world = World::start("replica").await?;
    let result = async {
        let kind = &world.kind;
        world.populate(WEST, "far").await?;
        world.at_global(kind.permit("all", "*", "*")).await?;
        let far = format!("http://{}.mesh/", kind.service("far"));
        world.in_east(kind.answered("client", &far)).await?;
        let kept = world.in_east(kind.load("client", &far)).await?;
        let anew = world.in_east(kind.start("client", &["load", "--anew", &far])).await?;
        for _ in 0..rounds(1, 10) {
            // Then another pod takes its place: the kubelet has those that end often wait.
            let killed = one_is_killed(&world).await?;
            is_deleted(&world, &killed).await?;
        }
        kept.answered_all().await?;
        anew.answered_all().await.map(drop)
    }
    .await;
    world.end(result).await
}
