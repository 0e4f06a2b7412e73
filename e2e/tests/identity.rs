//! Who may call across zones is decided by what certificates prove: tags that the mesh declares, and membership of zones.

use std::time::Duration;

use ursa_crds::{Kind, ObjectKey};
use ursa_e2e::{MTLS, Multizone, Zone, answer, eventually, permission, refused, shares};

/// Generous: the figures are printed, not judged.
const SOON: Duration = Duration::from_secs(10);

/// Which of the zones' clients are answered; the others get not one byte.
async fn only_called_from(mesh: &Multizone, zones: &[&str]) -> anyhow::Result<()> {
    for Zone { name, outbound, .. } in &mesh.zones {
        if zones.contains(name) {
            eventually(&format!("{name} calls"), SOON, async || answer(*outbound).await).await?;
        } else {
            eventually(&format!("{name} is refused"), SOON, async || refused(*outbound).await).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_tags_and_members_decide_across_zones() -> anyhow::Result<()> {
    let mut mesh = Multizone::start("identity-across-zones").await?;
    mesh.open().await?;
    let declared = |more: &str| format!("{MTLS}  identityTags: [{{key: team}}]\n{more}");
    let api = mesh.global.api()?;
    let by_team = permission("allow-all", "Allow", "team: red");
    let refusal = api.apply(&by_team).await.expect_err("no mesh declares it").to_string();
    assert!(refusal.contains("spec.identityTags: [{key: team}]"), "{refusal}");
    api.apply(&declared("")).await?;
    api.apply(&by_team).await?;
    only_called_from(&mesh, &[]).await?;

    // A token with the tag is what makes the difference, in each zone that is called.
    let east = &mut mesh.zones[1];
    let token = [
        "generate",
        "dataplane-token",
        "--name",
        "client-east",
        "--service",
        "client",
        "--tag",
        "team=red",
        "--valid-for",
        "1h",
    ];
    let token = east.plane.ursactl(&token)?;
    east.client.process()?.stop()?;
    std::fs::write(mesh.world.path("dp-default-client-east/token"), token)?;
    mesh.zones[1].client.start()?;
    only_called_from(&mesh, &["east"]).await?;
    eventually("east reaches all zones", SOON, async || {
        let seen = shares(mesh.zones[1].outbound, 24).await?;
        anyhow::ensure!(seen.keys().eq(["aws", "east", "west"]), "{seen:?}");
        Ok(())
    })
    .await?;
    let shown = mesh.zones[1].plane.ursactl(&["inspect", "dataplane", "client-east"])?;
    assert!(shown.contains("identity: ") && !shown.contains("/tags/-/"), "{shown}");

    // The other way round: all but those.
    api.apply(&permission("allow-all", "Allow", "ursamesh.io/service: client")).await?;
    api.apply(&permission("not-red", "Deny", "team: red")).await?;
    only_called_from(&mesh, &["aws", "west"]).await?;
    api.delete(&ObjectKey::in_mesh(Kind::TrafficPermission, "default", "not-red")).await?;
    mesh.each_reaches(&["aws", "east", "west"]).await?;

    // A zone that is no member is neither called nor let in.
    api.apply(&declared("  members: {zones: [aws, west]}\n")).await?;
    for zone in [&mesh.zones[0], &mesh.zones[2]] {
        eventually(&format!("{} does without east", zone.name), SOON, async || {
            let seen = shares(zone.outbound, 24).await?;
            anyhow::ensure!(seen.keys().eq(["aws", "west"]), "{seen:?}");
            Ok(())
        })
        .await?;
    }
    let shown = mesh.zones[1].plane.ursactl(&["inspect", "dataplane", "client-east"])?;
    assert!(shown.contains("zone east is not a member of mesh default"), "{shown}");
    // Its proxies keep what they had, and open nothing with it: not in one of a dozen calls.
    eventually("east reaches nobody elsewhere", SOON, async || {
        for _ in 0..12 {
            if let Ok(seen) = answer(mesh.zones[1].outbound).await {
                anyhow::ensure!(seen == "east", "{seen} answered");
            }
        }
        Ok(())
    })
    .await?;
    api.apply(&declared("")).await?;
    mesh.each_reaches(&["aws", "east", "west"]).await
}
