//! A minute of updates that change nothing, and a minute of instances that come and go.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio_stream::wrappers::IntervalStream;

use super::Effort;
use super::connect::{self, memory};
use crate::client::Client;
use crate::figures::{Sheet, number};
use crate::fleet::Fleet;
use crate::measures as m;
use crate::objects;
use crate::plan::MESH;
use crate::planes::Planes;

/// Updates a second that change nothing.
const NO_OPS: u64 = 1_000;
/// Of them that are under way at the same time.
const AT_ONCE: usize = 64;
/// Endpoint changes a second.
const CHANGES: u64 = 100;
/// Instances that are not ready at the same time: each for a second.
const UNREADY: usize = 50;
/// For the last changes to arrive.
const PATIENCE: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(20);

pub(super) async fn repetition(
    size: usize,
    effort: &Effort,
    folder: &Path,
    sheet: &mut Sheet,
) -> anyhow::Result<()> {
    let (planes, fleet) = connect::near(size, folder, sheet).await?;
    let near = &planes.zones[0];
    no_ops(&planes, &fleet, effort.seconds, sheet).await?;
    endpoints(&planes, &fleet, effort.seconds, sheet).await?;
    memory(near, sheet)
}

/// One half is a policy that is stored as it is stored, the other an agent's word that says what it said before.
async fn no_ops(planes: &Planes, fleet: &Fleet, seconds: u64, sheet: &mut Sheet) -> anyhow::Result<()> {
    fleet.quiet().await?;
    let (path, body) = (objects::permission_path(MESH), objects::permission("*"));
    let updates = NO_OPS * seconds;
    let (before, from) = (fleet.counts(), Instant::now());
    let cpu = (planes.zones[0].cpu()?, planes.global.cpu()?);
    let update = |(number, _): (usize, _)| {
        let (path, body) = (&path, &body);
        async move {
            if number % 2 == 0 {
                let from = Instant::now();
                planes.global.put(path, body).await?;
                return Ok(Some(from.elapsed()));
            }
            fleet.clients[number / 2 % fleet.clients.len()].ready(true);
            anyhow::Ok(None)
        }
    };
    let ticks = IntervalStream::new(tokio::time::interval(Duration::from_secs(1) / u32::try_from(NO_OPS)?));
    let count = usize::try_from(updates)?;
    let took: Vec<Option<Duration>> =
        ticks.take(count).enumerate().map(update).buffer_unordered(AT_ONCE).try_collect().await?;
    let elapsed = from.elapsed().as_secs_f64();
    let cores = |before: Duration, now: Duration| now.saturating_sub(before).as_secs_f64() / elapsed;
    sheet.one(m::NO_OP_CORES, cores(cpu.0, planes.zones[0].cpu()?));
    sheet.one(m::NO_OP_GLOBAL_CORES, cores(cpu.1, planes.global.cpu()?));
    sheet.one(m::NO_OP_RATE, number(updates) / elapsed);
    sheet.times(m::NO_OP_WRITE, &took.into_iter().flatten().collect::<Vec<_>>());
    fleet.quiet().await?;
    fleet.must_live()?;
    let sent = fleet.counts() - before;
    ensure!(sent.responses == 0, "{} responses although nothing changed", sent.responses);
    sheet.one(m::NO_OP_RESPONSES, number(sent.responses));
    Ok(())
}

/// One instance after the other becomes unready, and ready again a second later.
async fn endpoints(planes: &Planes, fleet: &Fleet, seconds: u64, sheet: &mut Sheet) -> anyhow::Result<()> {
    let clients = &fleet.clients;
    let callers = callers(clients);
    let lag = UNREADY.min(clients.len() / 2).max(1);
    let near = &planes.zones[0];
    let (before, cpu, from) = (fleet.counts(), near.cpu()?, Instant::now());
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(CHANGES)?);
    let change = |client: &Client, ready: bool| {
        if let Some(&caller) = callers.get(client.plan.serves.as_str()) {
            clients[caller].seen.watch_for(format!("{}/{}", client.plan.mesh, client.plan.serves));
        }
        client.ready(ready);
    };
    let mut changes = 0;
    let total = usize::try_from(CHANGES * seconds)?;
    for number in 0..total {
        ticks.tick().await;
        let at = number / 2;
        let is_down = number % 2 == 0;
        let Some(which) = (if is_down { Some(at) } else { at.checked_sub(lag) }) else { continue };
        change(&clients[which % clients.len()], !is_down);
        changes += 1;
    }
    let (elapsed, last) = (from.elapsed().as_secs_f64(), Instant::now());
    let cores = near.cpu()?.saturating_sub(cpu).as_secs_f64() / elapsed;
    while let Some(waiting) = clients.iter().find(|client| client.seen.is_waiting()) {
        let name = &waiting.plan.name;
        ensure!(last.elapsed() < PATIENCE, "{name} has not heard of a change after {PATIENCE:?}");
        tokio::time::sleep(LOOK).await;
    }
    fleet.quiet().await?;
    fleet.must_live()?;
    let sent = fleet.counts() - before;
    let settled = clients.iter().filter_map(|client| client.seen.acknowledged()).max();
    let settled = settled.context("nobody has acknowledged anything")?.saturating_duration_since(last);
    let waits: Vec<Duration> = clients.iter().flat_map(|client| client.seen.waits()).collect();
    sheet.times(m::CHURN_LATENCY, &waits);
    sheet.times(m::CHURN_SETTLED, &[settled]);
    sheet.one(m::CHURN_RATE, number(changes) / elapsed);
    sheet.one(m::CHURN_CORES, cores);
    sheet.one(m::CHURN_RESPONSES, number(sent.responses) / number(changes.max(1)));
    sheet.one(m::CHURN_BYTES, number(sent.bytes) / number(changes.max(1)));
    clients.iter().for_each(|client| client.ready(true));
    fleet.quiet().await
}

/// Of each service one client that calls it.
fn callers(clients: &[Client]) -> HashMap<&str, usize> {
    let mut callers = HashMap::new();
    for client in clients {
        let service = client.plan.serves.as_str();
        let Some(caller) = clients.iter().position(|other| other.plan.calls(service)) else { continue };
        callers.entry(service).or_insert(caller);
    }
    callers
}
