//! How scenarios begin and end: meshes, dataplanes that connect, memory.

use std::time::Duration;

use crate::figures::{Sheet, number, unevenness};
use crate::fleet::Fleet;
use crate::measures as m;
use crate::objects;
use crate::plan::Plan;
use crate::plane::Plane;

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

/// Connects all at once.
pub(super) async fn connect(plane: &Plane, plans: Vec<Plan>, sheet: &mut Sheet) -> anyhow::Result<Fleet> {
    let tokens = Fleet::tokens(plane, &plans).await?;
    let (memory, cpu) = (plane.memory_kib()?, plane.cpu()?);
    let (fleet, waits) = Fleet::connect(plane, plans, tokens).await?;
    fleet.quiet().await?;
    fleet.must_live()?;
    let count = fleet.clients.len() as u64;
    connected(&waits, sheet);
    sheet.one(m::CONNECT_RETRIES, number(fleet.all_attempts() - count));
    sheet.one(m::CONNECT_CPU, plane.cpu()?.saturating_sub(cpu).as_secs_f64());
    sheet.one(m::CONNECT_WIRE, number(fleet.wire_bytes()));
    sheet.one(m::MEMORY_PROXY, number(plane.memory_kib()?.saturating_sub(memory)) / number(count.max(1)));
    Ok(fleet)
}

/// How long they waited.
pub(super) fn connected(waits: &[Duration], sheet: &mut Sheet) {
    let all = waits.iter().max().copied().unwrap_or_default();
    sheet.one(m::CONNECT_ALL, all.as_secs_f64());
    sheet.times(m::CONNECT_WAIT, waits);
    sheet.one(m::CONNECT_UNEVENNESS, unevenness(waits));
}

/// What a control plane holds now, and has held at most.
pub(super) fn memory(plane: &Plane, sheet: &mut Sheet) -> anyhow::Result<()> {
    sheet.one(m::MEMORY_PEAK, number(plane.peak_kib()?) / 1024.0);
    sheet.one(m::MEMORY_SETTLED, number(plane.memory_kib()?) / 1024.0);
    Ok(())
}
