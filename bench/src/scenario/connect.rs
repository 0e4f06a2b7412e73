//! How scenarios begin and end: meshes, dataplanes that connect, memory.

use std::path::Path;
use std::time::Duration;

use crate::figures::{Measure, Sheet, number, unevenness};
use crate::fleet::Fleet;
use crate::measures as m;
use crate::objects;
use crate::plan::{MESH, Plan, Topology};
use crate::plane::Plane;
use crate::planes::Planes;

/// Makes meshes in which everybody may call, and waits until the zones have them.
pub(super) async fn meshes(global: &Plane, zones: &[Plane], meshes: &[&str]) -> anyhow::Result<()> {
    for mesh in meshes {
        global.put(&objects::mesh_path(mesh), &objects::mesh()).await?;
        global.put(&objects::permission_path(mesh), &objects::permission("*")).await?;
    }
    for zone in zones {
        for mesh in meshes {
            zone.gets(&objects::permission_path(mesh)).await?;
        }
    }
    Ok(())
}

/// Global and one zone, with so many dataplanes, ten to a service, all connected.
pub(super) async fn near(size: usize, folder: &Path, sheet: &mut Sheet) -> anyhow::Result<(Planes, Fleet)> {
    let planes = Planes::start(folder, &["near"]).await?;
    meshes(&planes.global, &planes.zones, &[MESH]).await?;
    let plans = Plan::all(("near", 1), &[MESH], Topology::Ten, size);
    let fleet = connect(&planes.zones[0], plans, sheet).await?;
    Ok((planes, fleet))
}

/// Connects all at once.
pub(super) async fn connect(plane: &Plane, plans: Vec<Plan>, sheet: &mut Sheet) -> anyhow::Result<Fleet> {
    let tokens = Fleet::tokens(plane, &plans).await?;
    let (memory, cpu) = (plane.memory_kib()?, plane.cpu()?);
    let (fleet, waits) = Fleet::connect(plane, plans, tokens).await?;
    fleet.quiet().await?;
    fleet.must_live()?;
    let count = fleet.clients.len() as u64;
    waited(&waits, CONNECTED, sheet);
    sheet.one(m::CONNECT_RETRIES, number(fleet.all_attempts() - count));
    sheet.one(m::CONNECT_CPU, plane.cpu()?.saturating_sub(cpu).as_secs_f64());
    sheet.one(m::CONNECT_WIRE, number(fleet.wire_bytes()));
    sheet.one(m::MEMORY_PROXY, number(plane.memory_kib()?.saturating_sub(memory)) / number(count.max(1)));
    Ok(fleet)
}

/// What is measured of those who connect.
pub(super) const CONNECTED: [Measure; 3] = [m::CONNECT_ALL, m::CONNECT_WAIT, m::CONNECT_UNEVENNESS];

/// How long they waited: until all had it, each, and the slowest against the median.
pub(super) fn waited(waits: &[Duration], [all, each, slowest]: [Measure; 3], sheet: &mut Sheet) {
    sheet.one(all, waits.iter().max().copied().unwrap_or_default().as_secs_f64());
    sheet.times(each, waits);
    sheet.one(slowest, unevenness(waits));
}

/// What a control plane holds now, and has held at most.
pub(super) fn memory(plane: &Plane, sheet: &mut Sheet) -> anyhow::Result<()> {
    sheet.one(m::MEMORY_PEAK, number(plane.peak_kib()?) / 1024.0);
    sheet.one(m::MEMORY_SETTLED, number(plane.memory_kib()?) / 1024.0);
    Ok(())
}
