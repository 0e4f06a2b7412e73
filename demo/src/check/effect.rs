//! When a change is in force in each zone, and whether it stays so.
//!
//! Invariant: an effect counts only if every request after it obeys.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures::future::try_join_all;

use super::Seen;
use super::answer::{Answer, Caller};
use crate::Demo;

/// For a change to be in force.
const BOUND: Duration = Duration::from_secs(10);
/// So many obedient answers in a row are no luck: (2/3)^40 is less than one in ten million.
const STREAK: usize = 40;
/// Requests that are all looked at once a change is in force.
pub(super) const BURST: u32 = 60;

/// Whose redis may answer, by the value of their key `zone`; nobody's, if every request must fail.
pub(super) type Expected<'a> = &'a [&'a str];

/// Waits until the change is in force in every zone, then sends each zone's burst. `expected` says, by zone, whose
/// redis must answer: all of them, and no other.
pub(super) async fn watch(
    demo: &Demo,
    since: Instant,
    burst: u32,
    expected: impl Fn(&str) -> Vec<&'static str>,
) -> anyhow::Result<(Seen, Shares)> {
    let zones = &demo.topology().zones;
    let all = try_join_all(zones.iter().map(|zone| {
        let (caller, expected) = (Caller::of(demo, zone), expected(&zone.name));
        async move {
            let settled = settle(&caller, since, &expected).await?;
            let shares = obeys(&caller, burst, &expected).await?;
            anyhow::Ok((caller.zone, settled, shares))
        }
    }))
    .await?;
    let mut seen = Seen::default();
    let mut lines = Vec::new();
    let mut by_zone = Shares::new();
    for (zone, settled, shares) in all {
        let on_the_way = match settled.failed {
            0 => String::new(),
            failed => format!(" ({failed} refused on the way)"),
        };
        lines.push(format!("{zone}: {}{on_the_way}", told(burst, &shares)));
        seen.effect.insert(zone.clone(), settled.after);
        by_zone.insert(zone, shares);
    }
    seen.what = lines.join("\n");
    Ok((seen, by_zone))
}

/// By the zone of the caller: how often each redis answered.
pub(super) type Shares = BTreeMap<String, BTreeMap<String, u32>>;

fn told(burst: u32, shares: &BTreeMap<String, u32>) -> String {
    if shares.is_empty() {
        return format!("{burst} requests, all refused");
    }
    let shares: Vec<String> = shares.iter().map(|(redis, count)| format!("{redis} {count}")).collect();
    format!("{burst} requests, answered by {}", shares.join(", "))
}

/// How a change came into force in a zone.
#[derive(Debug, Default)]
struct Settled {
    /// From the change to the moment from which on all answers obey, and all who are expected have answered.
    after: Duration,
    /// Requests that failed until then although somebody was expected to answer.
    failed: u32,
}

async fn settle(caller: &Caller, since: Instant, expected: Expected<'_>) -> anyhow::Result<Settled> {
    let mut settled = Settled::default();
    let mut streak = 0;
    let mut effect = None;
    let mut heard = BTreeSet::new();
    let mut last = String::from("nothing was asked");
    while streak < STREAK || (heard.len() < expected.len()) {
        ensure!(
            since.elapsed() < BOUND,
            "zone {}: not in force within {} s: the last that did not obey: {last}",
            caller.zone,
            BOUND.as_secs()
        );
        let answer = caller.increment().await?;
        if let Some(how) = disobeys(&answer, expected) {
            settled.failed += u32::from(!expected.is_empty() && matches!(answer, Answer::Failed(_)));
            (streak, effect, last) = (0, None, how);
            heard.clear();
            continue;
        }
        streak += 1;
        let new = matches!(&answer, Answer::Counted(counted) if heard.insert(counted.zone.clone()));
        if new || effect.is_none() {
            effect = Some(since.elapsed());
        }
    }
    settled.after = effect.context("a streak has a first answer")?;
    Ok(settled)
}

/// Every request of a burst must obey; how often each redis answered.
async fn obeys(caller: &Caller, burst: u32, expected: Expected<'_>) -> anyhow::Result<BTreeMap<String, u32>> {
    let mut shares = BTreeMap::new();
    for number in 1..=burst {
        let answer = caller.increment().await?;
        if let Some(how) = disobeys(&answer, expected) {
            bail!("zone {}: request {number} of {burst} after the change was in force: {how}", caller.zone);
        }
        if let Answer::Counted(counted) = answer {
            *shares.entry(counted.zone).or_default() += 1;
        }
    }
    ensure!(shares.len() == expected.len(), "zone {}: {expected:?} expected, {shares:?} seen", caller.zone);
    Ok(shares)
}

fn disobeys(answer: &Answer, expected: Expected<'_>) -> Option<String> {
    match answer {
        Answer::Counted(counted) if expected.contains(&counted.zone.as_str()) => None,
        Answer::Counted(counted) => Some(format!("the redis of {} answered", counted.zone)),
        Answer::Failed(_) if expected.is_empty() => None,
        Answer::Failed(error) => Some(format!("refused: {error}")),
    }
}
