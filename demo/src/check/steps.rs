//! Steps 2 to 9: a change by `ursactl`, as a user makes it, and what follows in every zone.

use std::time::Instant;

use anyhow::{Context as _, ensure};

use super::effect::{BURST, watch};
use super::intruders::Intruders;
use super::{Seen, Stage};
use crate::{Demo, ursactl};

const ZONES: [&str; 3] = ["aws", "east", "west"];

/// The very files that the guide tells users to apply.
mod file {
    pub(super) const MESH_MTLS: &str = include_str!("../../resources/mesh-mtls.yaml");
    pub(super) const ALLOW_ALL: &str = include_str!("../../resources/allow-all.yaml");
    pub(super) const ONLY_EAST: &str = include_str!("../../resources/only-east.yaml");
    pub(super) const DENY_DEMO_APP: &str = include_str!("../../resources/deny-demo-app.yaml");
    pub(super) const ROUTE_EAST: &str = include_str!("../../resources/route-east.yaml");
    pub(super) const ROUTE_HALF: &str = include_str!("../../resources/route-half.yaml");
    pub(super) const ROUTE_V1: &str = include_str!("../../resources/route-v1.yaml");
    pub(super) const ROUTE_V2: &str = include_str!("../../resources/route-v2.yaml");
}

/// Applies a file; then the same redises must answer every zone.
async fn apply(demo: &Demo, file: &str, expected: &[&'static str]) -> anyhow::Result<Seen> {
    ursactl::apply(demo, file).await?;
    Ok(watch(demo, Instant::now(), BURST, |_| expected.to_vec()).await?.0)
}

pub(super) async fn mutual_tls(stage: &mut Stage<'_>) -> anyhow::Result<Seen> {
    let seen = apply(stage.demo, file::MESH_MTLS, &[]).await?;
    stage.intruders = Some(Intruders::send(stage.demo).await?);
    Ok(seen)
}

pub(super) async fn allow_all(demo: &Demo) -> anyhow::Result<Seen> {
    apply(demo, file::ALLOW_ALL, &ZONES).await
}

pub(super) async fn all_to_east(demo: &Demo) -> anyhow::Result<Seen> {
    apply(demo, file::ROUTE_EAST, &["east"]).await
}

pub(super) async fn half_and_half(demo: &Demo) -> anyhow::Result<Seen> {
    /// With a deviation of at most 85 a fair coin is taken for an unfair one less than once in ten million; there
    /// are three.
    const TOSSES: u32 = 1_000;
    const DEVIATION: u32 = 85;
    ursactl::apply(demo, file::ROUTE_HALF).await?;
    let (seen, shares) = watch(demo, Instant::now(), TOSSES, |_| vec!["aws", "east"]).await?;
    for (zone, shares) in shares {
        let aws = shares.get("aws").copied().unwrap_or_default();
        ensure!(aws.abs_diff(TOSSES / 2) <= DEVIATION, "zone {zone}: {shares:?} is not half and half");
    }
    Ok(seen)
}

/// The route of the step before is still there.
pub(super) async fn narrowed(demo: &Demo) -> anyhow::Result<Seen> {
    const ROUTED: [&str; 2] = ["aws", "east"];
    ursactl::apply(demo, file::ONLY_EAST).await?;
    let only_east = |zone: &str| if zone == "east" { ROUTED.to_vec() } else { Vec::new() };
    let (mut seen, _) = watch(demo, Instant::now(), BURST, only_east).await.context("only east may call")?;
    // East went on all the time: it has nothing that comes into force.
    seen.effect.remove("east");
    apply(demo, file::ALLOW_ALL, &ROUTED).await.context("allow-all again")?;
    let denied = apply(demo, file::DENY_DEMO_APP, &[]).await.context("a Deny over allow-all")?;
    let times: Vec<String> =
        denied.effect.iter().map(|(zone, time)| format!("{zone} {} ms", time.as_millis())).collect();
    seen.what += "\nthen a Deny for demo-app: all refused in every zone, after ";
    seen.what += &times.join(", ");
    Ok(seen)
}

pub(super) async fn spread_again(demo: &Demo) -> anyhow::Result<Seen> {
    ursactl::delete(demo, "trafficroute", "redis").await?;
    ursactl::delete(demo, "trafficpermission", "deny-demo-app").await?;
    Ok(watch(demo, Instant::now(), BURST, |_| ZONES.to_vec()).await?.0)
}

pub(super) async fn versions(demo: &mut Demo) -> anyhow::Result<Seen> {
    apply(demo, file::ROUTE_V1, &ZONES).await.context("all to v1")?;
    let zone = demo.topology().zones.last().cloned().context("the demo has zones")?;
    let second = demo.second_redis(&zone).await?;
    let green = "west-v2";
    ensure!(second.zone == green, "the second redis calls itself {}", second.zone);
    ursactl::apply(demo, file::ROUTE_V2).await?;
    let (mut seen, _) = watch(demo, Instant::now(), BURST, |_| vec![green]).await.context("all to v2")?;
    let back = apply(demo, file::ROUTE_V1, &ZONES).await.context("back to v1")?;
    seen.what += "\nand back to v1:\n";
    seen.what += &back.what;
    ursactl::delete(demo, "trafficroute", "redis").await?;
    Ok(seen)
}

/// Asked last, while everybody with a certificate of the mesh may call.
pub(super) async fn nobody_got_in(stage: &mut Stage<'_>) -> anyhow::Result<Seen> {
    let intruders = stage.intruders.take().context("mutual TLS was never on")?;
    Ok(Seen { what: intruders.report().await?, ..Seen::default() })
}
