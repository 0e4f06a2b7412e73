//! One client that takes nothing, as a stopped process or as one that leaves its stream unread: the others must not wait
//! for it, and it must catch up.

use std::path::Path;

use super::Effort;
use super::connect::{self, memory};
use crate::changes::{Place, in_default_mesh};
use crate::figures::{Measure, Sheet, number};
use crate::fleet::Fleet;
use crate::measures as m;
use crate::objects;
use crate::plan::{MESH, Plan, SERVICE};

pub(super) async fn repetition(
    size: usize,
    effort: &Effort,
    folder: &Path,
    sheet: &mut Sheet,
) -> anyhow::Result<()> {
    let (planes, fleet) = connect::near(size, folder, sheet).await?;
    let near = &planes.zones[0];
    let victim = Fleet::join(near, vec![Plan::idle("victim", 1)]).await?;
    let place = Place { global: &planes.global, near, fleet: &fleet, far: None, alone: true };
    place.policies(effort.changes, sheet).await?;
    victim.quiet().await?;

    let memory_before = near.memory_kib()?;
    let one = &victim.clients[0];
    one.seen.wire.stop(true);
    policies(&place, effort.changes, [SERVICE, "*"], m::POLICY_STOPPED, sheet).await?;
    catch_up(&victim, || one.seen.wire.stop(false), sheet).await?;

    one.read(false);
    policies(&place, effort.changes, ["*", SERVICE], m::POLICY_UNREAD, sheet).await?;
    sheet.one(m::STOPPED_MEMORY, number(near.memory_kib()?.saturating_sub(memory_before)));
    catch_up(&victim, || one.read(true), sheet).await?;
    memory(near, sheet)
}

/// Changes that the others acknowledge, to these sources in turn; the last one leaves another state than the first one found.
async fn policies(
    place: &Place<'_>,
    changes: usize,
    sources: [&str; 2],
    measure: Measure,
    sheet: &mut Sheet,
) -> anyhow::Result<()> {
    let path = objects::permission_path(MESH);
    for change in 0..=2 * changes {
        let body = objects::permission(sources[change % 2]);
        let effect = place.fleet.effect(place.global.put(&path, &body), in_default_mesh).await?;
        sheet.times(measure, &effect.latencies);
    }
    Ok(())
}

/// The client goes on, and gets what it has missed; then all is as it was.
async fn catch_up(victim: &Fleet, go_on: impl FnOnce(), sheet: &mut Sheet) -> anyhow::Result<()> {
    let watch = victim.watch(in_default_mesh);
    go_on();
    let effect = watch.effect().await?;
    sheet.times(m::CATCH_UP, &effect.latencies);
    Ok(())
}
