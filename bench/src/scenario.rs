//! Scenarios by name: each repetition starts control planes from nothing and ends them.

mod churn;
mod connect;
mod restart;
mod start;
mod stopped;
mod topology;
mod zones;

use std::path::Path;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;

use crate::figures::Sheet;
use crate::plan::Topology;
use crate::report::Run;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// A service a dataplane, each calls five: all connect, then each kind of change.
    Sparse,
    /// The same with ten instances a service.
    Ten,
    /// The same where each dataplane calls every service.
    Dense,
    /// The same as `ten` with the dataplanes spread over ten meshes.
    Meshes,
    /// Global and three zones with their ingresses: changes as the zone and another one see them.
    Zones,
    /// 1 000 updates a second that change nothing, then 100 endpoint changes a second.
    Churn,
    /// The control plane stops and starts; all come back with what they have.
    Restart,
    /// One client that is stopped, or does not read, among all others.
    Stopped,
    /// A control plane starts over many stored objects.
    Start,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Repetitions of a scenario in each size.
    pub repeat: usize,
    /// Times that each change is made in a repetition.
    pub changes: usize,
    /// How long churn lasts, in seconds, of either kind.
    pub seconds: u64,
}

impl Effort {
    /// Of the repetition that warms up.
    const LEAST: Self = Self { repeat: 1, changes: 1, seconds: 1 };
}

impl Scenario {
    /// As it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sparse => "sparse",
            Self::Ten => "ten",
            Self::Dense => "dense",
            Self::Meshes => "meshes",
            Self::Zones => "zones",
            Self::Churn => "churn",
            Self::Restart => "restart",
            Self::Stopped => "stopped",
            Self::Start => "start",
        }
    }

    /// What its size counts.
    pub fn counts(self) -> &'static str {
        match self {
            Self::Zones => "dataplanes in each of three zones",
            Self::Start => "stored objects",
            _ => "dataplanes",
        }
    }

    /// Its sizes if none are given; `most`: clients that this machine can hold.
    pub fn sizes(self, most: usize) -> Vec<usize> {
        match self {
            Self::Sparse => vec![100, 500, 1_000, 5_000, most],
            Self::Ten => vec![100, 500, 1_000, 5_000],
            Self::Dense => vec![100, 500, 1_000],
            Self::Meshes | Self::Churn | Self::Stopped => vec![1_000],
            Self::Zones => vec![300],
            Self::Restart => vec![100, 1_000, 5_000],
            Self::Start => vec![10_000],
        }
    }

    /// Sizes that take seconds.
    pub fn quick_sizes(self) -> Vec<usize> {
        match self {
            Self::Ten => vec![100, 500],
            Self::Sparse | Self::Meshes | Self::Churn | Self::Restart | Self::Stopped => vec![100],
            Self::Dense => vec![50],
            Self::Zones => vec![30],
            Self::Start => vec![1_000],
        }
    }

    /// The largest size that means anything.
    fn limit(self) -> Option<usize> {
        // A dataplane may have 1 024 outbounds.
        matches!(self, Self::Dense).then_some(1_000)
    }

    async fn repetition(
        self,
        size: usize,
        effort: &Effort,
        folder: &Path,
        sheet: &mut Sheet,
    ) -> anyhow::Result<()> {
        sheet.next_repetition();
        match self {
            Self::Sparse => {
                Box::pin(topology::repetition(Topology::Sparse, 1, size, effort, folder, sheet)).await
            }
            Self::Ten => Box::pin(topology::repetition(Topology::Ten, 1, size, effort, folder, sheet)).await,
            Self::Dense => {
                Box::pin(topology::repetition(Topology::Dense, 1, size, effort, folder, sheet)).await
            }
            Self::Meshes => {
                Box::pin(topology::repetition(Topology::Ten, 10, size, effort, folder, sheet)).await
            }
            Self::Zones => Box::pin(zones::repetition(size, effort, folder, sheet)).await,
            Self::Churn => Box::pin(churn::repetition(size, effort, folder, sheet)).await,
            Self::Restart => Box::pin(restart::repetition(size, folder, sheet)).await,
            Self::Stopped => Box::pin(stopped::repetition(size, effort, folder, sheet)).await,
            Self::Start => Box::pin(start::repetition(size, folder, sheet)).await,
        }
    }

    /// A repetition that is not counted.
    pub async fn warm_up(self, size: usize, folder: &Path) -> anyhow::Result<()> {
        let context = || format!("the warm-up of {} with {size} {}", self.name(), self.counts());
        let mut none = Sheet::default();
        self.repetition(size, &Effort::LEAST, folder, &mut none).await.with_context(context)
    }

    /// Measures; the state lies in this folder meanwhile.
    pub async fn run(self, size: usize, effort: &Effort, folder: &Path) -> anyhow::Result<Run> {
        let (name, counts) = (self.name(), self.counts());
        if let Some(limit) = self.limit() {
            ensure!(size <= limit, "{name} goes up to {limit} {counts}, not {size}");
        }
        let mut sheet = Sheet::default();
        for repetition in 1..=effort.repeat {
            step(&format!("{name} with {size} {counts}: repetition {repetition} of {}", effort.repeat));
            self.repetition(size, effort, folder, &mut sheet).await.with_context(|| {
                format!("{name} with {size} {counts}, repetition {repetition} of {}", effort.repeat)
            })?;
        }
        Ok(Run { scenario: name.to_owned(), size, counts: counts.to_owned(), figures: sheet.figures() })
    }
}

/// Says how far it is; what is measured goes to the table.
fn step(what: &str) {
    eprintln!("{what}");
}
