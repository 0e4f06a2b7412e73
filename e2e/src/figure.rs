//! What tests measure while they are at it.

use std::time::Duration;

use anyhow::Context as _;

use crate::kind::SOON;

/// Prints the times that half and nearly all of them stay below; fails if one is far too long.
pub fn figure(what: &str, mut times: Vec<Duration>) -> anyhow::Result<()> {
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
    let (half, most) = at(50).zip(at(99)).context("nothing was measured")?;
    println!("figure: {what}: p50 {half:.1?}, p99 {most:.1?} ({} times)", times.len());
    anyhow::ensure!(*most < SOON, "{what}: {most:?}");
    Ok(())
}
