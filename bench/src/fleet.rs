//! All dataplanes of a zone.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use crate::client::{Client, Plan};
use crate::planes::Plane;

/// Tokens that are asked for, and connections that are set up, at the same time.
const AT_ONCE: usize = 64;
/// For every proxy that a change concerns to have acknowledged it.
const PATIENCE: Duration = Duration::from_mins(2);
/// Nothing more comes once nothing has come for this long.
const QUIET: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(20);

/// The connected dataplanes of a zone.
#[derive(Debug)]
pub struct Fleet {
    /// By number.
    pub clients: Vec<Client>,
}

/// What a change has come to.
#[derive(Debug)]
pub struct Effect {
    /// From the change to the last acknowledgement of each proxy that it concerned.
    pub latencies: Vec<Duration>,
    /// Responses in all.
    pub responses: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Fleet {
    /// Makes a token for each.
    pub async fn tokens(plane: &Plane, plans: &[Plan]) -> anyhow::Result<Vec<String>> {
        let token = |plan: &Plan| {
            let request = json!({"name": plan.name, "services": [plan.serves], "validFor": "24h"});
            async move { plane.token("dataplane", &request).await }
        };
        stream::iter(plans.iter().map(token)).buffered(AT_ONCE).try_collect().await
    }

    /// Connects all; returns when each has acknowledged its first configuration.
    pub async fn connect(plane: &Plane, plans: Vec<Plan>, tokens: Vec<String>) -> anyhow::Result<Self> {
        let (address, ca_file) = (plane.agents(), plane.ca_file());
        let connect = |(plan, token): (Plan, String)| {
            let (address, ca_file, name) = (address.clone(), ca_file.clone(), plan.name.clone());
            async move {
                let client = Client::connect(plan, &address, &ca_file, token);
                let client = tokio::time::timeout(PATIENCE, client).await;
                client.with_context(|| format!("{name} has no configuration after {PATIENCE:?}"))?
            }
        };
        let all = stream::iter(plans.into_iter().zip(tokens).map(connect));
        Ok(Self { clients: all.buffered(AT_ONCE).try_collect().await? })
    }

    /// Responses so far, and their bytes.
    pub fn counts(&self) -> (u64, u64) {
        self.clients.iter().map(|client| client.seen.counts()).fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
    }

    /// Waits until nothing has come for a while.
    pub async fn quiet(&self) -> anyhow::Result<()> {
        let from = Instant::now();
        let (mut before, mut since) = (self.counts(), Instant::now());
        while since.elapsed() < QUIET {
            ensure!(from.elapsed() < PATIENCE, "responses never end");
            tokio::time::sleep(LOOK).await;
            let now = self.counts();
            if now != before {
                (before, since) = (now, Instant::now());
            }
        }
        self.clients.iter().try_for_each(Client::must_live)
    }

    /// Makes a change and waits until each of the proxies that it concerns has acknowledged it.
    pub async fn effect(
        &self,
        change: impl Future<Output = anyhow::Result<()>>,
        concerns: impl Fn(&Plan) -> bool,
    ) -> anyhow::Result<Effect> {
        let (before, from) = (self.counts(), Instant::now());
        change.await?;
        self.effect_since(from, before, concerns).await
    }

    /// What a change came to that was made at this time, when these were the counts.
    pub async fn effect_since(
        &self,
        from: Instant,
        before: (u64, u64),
        concerns: impl Fn(&Plan) -> bool,
    ) -> anyhow::Result<Effect> {
        let concerned: Vec<&Client> = self.clients.iter().filter(|client| concerns(&client.plan)).collect();
        let late = |client: &&&Client| client.seen.acknowledged().is_none_or(|at| at < from);
        while let Some(late) = concerned.iter().find(late) {
            ensure!(from.elapsed() < PATIENCE, "{} has not acknowledged after {PATIENCE:?}", late.plan.name);
            tokio::time::sleep(LOOK).await;
        }
        self.quiet().await?;
        let after = self.counts();
        let latency =
            |client: &Client| client.seen.acknowledged().map(|at| at.saturating_duration_since(from));
        Ok(Effect {
            latencies: concerned.into_iter().filter_map(latency).collect(),
            responses: after.0 - before.0,
            bytes: after.1 - before.1,
        })
    }
}
