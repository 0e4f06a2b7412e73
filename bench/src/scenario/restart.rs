//! The zone's control plane stops and starts, and all come back at once with what they have.

use std::path::Path;
use std::time::Instant;

use anyhow::ensure;

use super::connect::{connect, memory, meshes};
use crate::figures::{Sheet, number, unevenness};
use crate::measures as m;
use crate::plan::{MESH, Plan, Topology};
use crate::planes::Planes;

pub(super) async fn repetition(size: usize, folder: &Path, sheet: &mut Sheet) -> anyhow::Result<()> {
    let mut planes = Planes::start(folder, &["near"]).await?;
    meshes(&planes.global, &planes.zones, &[MESH]).await?;
    let near = &mut planes.zones[0];
    let fleet = connect(near, Plan::all(("near", 1), &[MESH], Topology::Ten, size), sheet).await?;

    let (before, wire, from) = (fleet.counts(), fleet.wire_bytes(), Instant::now());
    near.stop().await?;
    sheet.one(m::RESTART_STOP, from.elapsed().as_secs_f64());
    let from = Instant::now();
    near.start_again().await?;
    sheet.one(m::RESTART_READY, from.elapsed().as_secs_f64());
    let waits = fleet.connected_since(from).await?;
    fleet.quiet().await?;
    fleet.must_live()?;
    let sent = fleet.counts() - before;
    ensure!(
        sent.resources == 0,
        "{} resources were sent after the restart to clients that lacked none",
        sent.resources
    );
    sheet.one(m::RECONNECT_RESOURCES, number(sent.resources));
    sheet.one(m::RECONNECT_ALL, waits.iter().max().copied().unwrap_or_default().as_secs_f64());
    sheet.times(m::RECONNECT_WAIT, &waits);
    sheet.one(m::RECONNECT_UNEVENNESS, unevenness(&waits));
    sheet.one(m::RECONNECT_CPU, near.cpu()?.as_secs_f64());
    sheet.one(m::RECONNECT_WIRE, number(fleet.wire_bytes() - wire));
    memory(near, sheet)
}
