//! Global and three zones whose services are the same: what one zone does as another one sees it.

use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::try_join_all;

use super::Effort;
use super::connect::{CONNECTED, memory, meshes, waited};
use crate::changes::Place;
use crate::figures::{Sheet, number};
use crate::fleet::Fleet;
use crate::measures as m;
use crate::plan::{MESH, Plan, Topology};
use crate::planes::Planes;

const ZONES: [&str; 3] = ["east", "west", "south"];
/// Longer than anything waits that zones tell each other.
const SETTLED: Duration = Duration::from_secs(3);

pub(super) async fn repetition(
    size: usize,
    effort: &Effort,
    folder: &Path,
    sheet: &mut Sheet,
) -> anyhow::Result<()> {
    let planes = Planes::start(folder, &ZONES).await?;
    meshes(&planes.global, &planes.zones, &[MESH]).await?;
    let places = || planes.zones.iter().zip(ZONES).zip(1..);
    let ingresses =
        try_join_all(places().map(|((plane, _), place)| Fleet::join(plane, vec![Plan::ingress(place)])))
            .await?;

    let plans: Vec<Vec<Plan>> =
        places().map(|((_, zone), place)| Plan::all((zone, place), &[MESH], Topology::Ten, size)).collect();
    let tokens =
        try_join_all(planes.zones.iter().zip(&plans).map(|(plane, p)| Fleet::tokens(plane, p))).await?;
    let cpu = cpu(&planes)?;
    let from = Instant::now();
    let joining = planes.zones.iter().zip(plans).zip(tokens);
    let fleets =
        try_join_all(joining.map(|((plane, plans), tokens)| Fleet::connect(plane, plans, tokens))).await?;
    let (fleets, waits): (Vec<Fleet>, Vec<Vec<Duration>>) = fleets.into_iter().unzip();
    settled(&fleets, &ingresses).await?;
    waited(&waits.concat(), CONNECTED, sheet);
    let attempts: u64 = fleets.iter().map(Fleet::all_attempts).sum();
    let clients: usize = fleets.iter().map(|fleet| fleet.clients.len()).sum();
    sheet.one(m::CONNECT_RETRIES, number(attempts - clients as u64));
    sheet.one(m::CONNECT_CPU, self::cpu(&planes)?.saturating_sub(cpu).as_secs_f64());
    sheet.one(m::CONNECT_WIRE, number(fleets.iter().map(Fleet::wire_bytes).sum()));
    super::step(&format!("  all zones are settled after {:.1} s", from.elapsed().as_secs_f64()));

    let (near, fleet) = (&planes.zones[0], &fleets[0]);
    let place = Place { global: &planes.global, near, fleet, far: Some(&fleets[1]), alone: false };
    place.policies(effort.changes, sheet).await?;
    place.routes(effort.changes, sheet).await?;
    settled(&fleets, &ingresses).await?;
    place.endpoints(effort.changes, Some(&fleets[1]), sheet).await?;
    settled(&fleets, &ingresses).await?;
    place.no_ops(2 * effort.changes, sheet).await?;
    memory(near, sheet)
}

/// Of all zones.
fn cpu(planes: &Planes) -> anyhow::Result<Duration> {
    planes.zones.iter().map(crate::plane::Plane::cpu).sum()
}

async fn settled(fleets: &[Fleet], ingresses: &[Fleet]) -> anyhow::Result<()> {
    try_join_all(fleets.iter().chain(ingresses).map(|fleet| fleet.quiet_for(SETTLED))).await?;
    fleets.iter().chain(ingresses).try_for_each(Fleet::must_live)
}
