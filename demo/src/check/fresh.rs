//! Step 1: nothing is enabled, and traffic stays in its zone.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::Seen;
use super::answer::{Answer, Caller};
use crate::Demo;
use crate::app::{self, Reply};
use crate::topology::Zone;

const TIMES: i64 = 20;

pub(super) async fn play(demo: &Demo) -> anyhow::Result<Seen> {
    let mut seen = Vec::new();
    for zone in &demo.topology().zones {
        let counted = count(demo, zone).await.with_context(|| format!("zone {}", zone.name))?;
        seen.push(format!("{}: {TIMES} increments by its demo-app, its redis counts {counted}", zone.name));
    }
    Ok(Seen { what: seen.join("\n"), ..Seen::default() })
}

/// Increments through the mesh; what the zone's Redis itself says afterwards.
async fn count(demo: &Demo, zone: &Zone) -> anyhow::Result<i64> {
    let before = stored(zone).await?;
    let caller = Caller::of(demo, zone);
    for number in 1..=TIMES {
        let counted = match caller.increment().await? {
            Answer::Counted(counted) => counted,
            Answer::Failed(error) => bail!("increment {number}: {error}"),
        };
        ensure!(
            counted.counter == before + number,
            "increment {number} from {before} gave {}",
            counted.counter
        );
        ensure!(counted.zone == zone.name, "the redis of zone {} answered", counted.zone);
    }
    let after = stored(zone).await?;
    ensure!(after == before + TIMES, "its redis holds {after} after {TIMES} increments from {before}");
    Ok(after)
}

/// The counter as the zone's Redis holds it, asked past the mesh.
async fn stored(zone: &Zone) -> anyhow::Result<i64> {
    let replies = app::call(zone.redis().server(), &[&["GET", "counter"]], Duration::from_secs(2)).await?;
    match replies.as_slice() {
        [Reply::Nil] => Ok(0),
        [Reply::Text(number)] => number.parse().with_context(|| format!("redis holds {number:?}")),
        other => anyhow::bail!("redis answered {other:?}"),
    }
}
