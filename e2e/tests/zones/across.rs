//! Services of one zone are served in the others.

use ursa_e2e::kind::{kubectl, server};

use super::world::{WEST, World};

/// With three pods.
fn three(server: &str) -> String {
    server.replace("replicas: 1", "replicas: 3")
}

/// A service of both zones, and two that only the west has.
async fn services_are_those_of_all_zones(world: &World) -> anyhow::Result<()> {
    let kind = &world.kind;
    world
        .in_zone(WEST, async {
            kind.namespace().await?;
            // It answers by another name than the east's.
            kind.apply(
                &three(&server("web")).replace(r#""--name", "web""#, r#""--name", "web of the west""#),
            )
            .await?;
            kind.apply(&three(&server("far"))).await?;
            kind.apply(
                &three(&server("far2")).replace("appProtocol: http", "appProtocol: kubernetes.io/h2c"),
            )
            .await?;
            kind.ready("web").await?;
            kind.ready("far").await?;
            kind.ready("far2").await
        })
        .await?;
    world.at_global(kind.permit("all", "*", "*")).await?;
    world.answered_by("http://web/", &["web", "web of the west"]).await?;
    world.shared_by_pods("http://web/", &[], 4).await?;
    let far = format!("http://{}.mesh/", kind.service("far"));
    world.answered_by(&far, &["far"]).await?;
    world.shared_by_pods(&far, &[], 3).await?;
    world.shared_by_pods(&format!("http://{}.mesh/", kind.service("far2")), &["--http2"], 3).await?;
    let heard = world
        .in_east(kind.exec("client", &["listen", &format!("{}.mesh:9000", kind.service("far"))]))
        .await?;
    anyhow::ensure!(heard.to_string().contains("far"), "a server that speaks first: {heard}");
    let caller = world.in_east(kind.answered("client", &far)).await?["caller"].clone();
    let caller = caller.as_str().unwrap_or_default().to_owned();
    anyhow::ensure!(
        caller.contains(&format!("URI=spiffe://east.{}.ursa/service/client.", kind.name)),
        "{caller}"
    );
    // Both sides of a permission may be in different zones.
    world.at_global(kind.permit("all", "nobody", "*")).await?;
    world.in_east(kind.refused("client", &far)).await?;
    world.at_global(kind.permit("all", "*", "*")).await?;
    world.answered_by("http://web/", &["web", "web of the west"]).await
}

/// While its user wants nothing sent to a zone, the others serve.
async fn a_disabled_zone_is_passed_over(world: &World) -> anyhow::Result<()> {
    let enabled = |enabled: bool| format!(r#"{{"spec": {{"enabled": {enabled}}}}}"#);
    world.at_global(kubectl(&["patch", "zone", WEST, "--type", "merge", "--patch", &enabled(false)])).await?;
    world.until_state(WEST, "Disabled").await?;
    world.answered_by("http://web/", &["web"]).await?;
    world.at_global(kubectl(&["patch", "zone", WEST, "--type", "merge", "--patch", &enabled(true)])).await?;
    world.until_state(WEST, "Online").await?;
    world.answered_by("http://web/", &["web", "web of the west"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_serve_one_another() -> anyhow::Result<()> {
    let world = World::start("across").await?;
    let result = async {
        services_are_those_of_all_zones(&world).await?;
        a_disabled_zone_is_passed_over(&world).await?;
        world.at_global(world.kind.delete_policy("trafficpermission", "all")).await
    }
    .await;
    world.end(result).await
}
