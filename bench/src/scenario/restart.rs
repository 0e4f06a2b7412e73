//! The zone's control plane stops and starts, and all come back at once with what they have.

use std::path::Path;
use std::time::Instant;

use anyhow::ensure;

use super::connect::{self, memory, waited};
use crate::figures::{Sheet, number};
use crate::measures as m;

pub(super) async fn repetition(size: usize, folder: &Path, sheet: &mut Sheet) -> anyhow::Result<()> {
    let (mut planes, fleet) = connect::near(size, folder, sheet).await?;
    let near = &mut planes.zones[0];

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
    waited(&waits, [m::RECONNECT_ALL, m::RECONNECT_WAIT, m::RECONNECT_UNEVENNESS], sheet);
    sheet.one(m::RECONNECT_CPU, near.cpu()?.as_secs_f64());
    sheet.one(m::RECONNECT_WIRE, number(fleet.wire_bytes() - wire));
    memory(near, sheet)
}
