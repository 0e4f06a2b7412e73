//! All dataplanes of a zone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use crate::client::Client;
use crate::plan::Plan;
use crate::plane::Plane;
use crate::seen::Counts;

/// Tokens that are asked for at the same time.
const AT_ONCE: usize = 64;
/// For every proxy that a change concerns to have acknowledged it.
const PATIENCE: Duration = Duration::from_mins(2);
/// For all to connect.
const CONNECT: Duration = Duration::from_mins(15);
/// Nothing more comes once nothing has come for this long.
const QUIET: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(20);

/// The dataplanes of a zone.
#[derive(Debug)]
pub struct Fleet {
    /// By number.
    pub clients: Vec<Client>,
    /// How often they have tried to connect until all were connected last.
    attempts: AtomicU64,
}

/// What a change has come to.
#[derive(Debug)]
pub struct Effect {
    /// From the change to the last acknowledgement of each proxy that it concerned.
    pub latencies: Vec<Duration>,
    /// What was sent to all.
    pub sent: Counts,
    /// What was sent to proxies that it does not concern.
    pub astray: Counts,
}

impl Fleet {
    /// Makes a token for each.
    pub async fn tokens(plane: &Plane, plans: &[Plan]) -> anyhow::Result<Vec<String>> {
        let token = |plan: &Plan| {
            let (kind, request) = if plan.is_ingress() {
                ("ingress", json!({"name": plan.name, "validFor": "24h"}))
            } else {
                let (mesh, services) = (&plan.mesh, [&plan.serves]);
                let request =
                    json!({"mesh": mesh, "name": plan.name, "services": services, "validFor": "24h"});
                ("dataplane", request)
            };
            async move { plane.token(kind, &request).await }
        };
        stream::iter(plans.iter().map(token)).buffered(AT_ONCE).try_collect().await
    }

    /// Connects all at once; returns when each has its first whole configuration, with how long each waited for it.
    pub async fn connect(
        plane: &Plane,
        plans: Vec<Plan>,
        tokens: Vec<String>,
    ) -> anyhow::Result<(Self, Vec<Duration>)> {
        let (dialer, from) = (plane.dialer()?, Instant::now());
        let start = |(plan, token)| Client::start(plan, dialer.clone(), token);
        let clients = plans.into_iter().zip(tokens).map(start).collect();
        let fleet = Self { clients, attempts: AtomicU64::new(0) };
        let waits = fleet.connected_since(from).await?;
        Ok((fleet, waits))
    }

    /// The same, with tokens that are made for it.
    pub async fn join(plane: &Plane, plans: Vec<Plan>) -> anyhow::Result<Self> {
        let tokens = Self::tokens(plane, &plans).await?;
        Ok(Self::connect(plane, plans, tokens).await?.0)
    }

    /// Waits until each has got a connection after this time that has all it needs; how long each waited.
    pub async fn connected_since(&self, from: Instant) -> anyhow::Result<Vec<Duration>> {
        let waited = |client: &Client| Some(client.seen.configured()?.checked_duration_since(from)).flatten();
        loop {
            if let Some(waits) = self.clients.iter().map(waited).collect::<Option<Vec<_>>>() {
                self.attempts.store(self.all_attempts(), Ordering::Relaxed);
                return Ok(waits);
            }
            if from.elapsed() > CONNECT {
                let late: Vec<&Client> =
                    self.clients.iter().filter(|client| waited(client).is_none()).collect();
                let (count, first) = (late.len(), &late[0]);
                let (name, fault) = (&first.plan.name, first.seen.fault());
                bail!("{count} have no configuration after {CONNECT:?}; of {name} the last fault: {fault:?}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How often they have tried to connect in all.
    pub fn all_attempts(&self) -> u64 {
        self.clients.iter().map(|client| client.seen.attempts()).sum()
    }

    /// What has come so far.
    pub fn counts(&self) -> Counts {
        self.counts_of(|_| true)
    }

    fn counts_of(&self, which: impl Fn(&Plan) -> bool) -> Counts {
        let counts = self.clients.iter().filter(|c| which(&c.plan)).map(|client| client.seen.counts());
        counts.fold(Counts::default(), |a, b| a + b)
    }

    /// Bytes that went over their connections so far.
    pub fn wire_bytes(&self) -> u64 {
        self.clients.iter().map(|client| client.seen.wire.bytes()).sum()
    }

    /// Waits until nothing has come for a while.
    pub async fn quiet(&self) -> anyhow::Result<()> {
        self.quiet_for(QUIET).await
    }

    /// Waits until nothing has come for this long.
    pub async fn quiet_for(&self, time: Duration) -> anyhow::Result<()> {
        let from = Instant::now();
        let (mut before, mut since) = (self.counts(), Instant::now());
        while since.elapsed() < time {
            ensure!(from.elapsed() < PATIENCE, "responses never end");
            tokio::time::sleep(LOOK).await;
            let now = self.counts();
            if now != before {
                (before, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// Fails if a connection has ended since all were connected.
    pub fn must_live(&self) -> anyhow::Result<()> {
        if self.all_attempts() == self.attempts.load(Ordering::Relaxed) {
            return Ok(());
        }
        let faults = self.clients.iter().map(|client| (&client.plan.name, client.seen.fault()));
        let lost: Vec<_> = faults.filter(|(_, fault)| !fault.is_empty()).collect();
        bail!("{} connections have ended, such as that of {:?}", lost.len(), lost.first());
    }

    /// Makes a change and waits until each of the proxies that it concerns has acknowledged it.
    pub async fn effect(
        &self,
        change: impl Future<Output = anyhow::Result<()>>,
        concerns: impl Fn(&Plan) -> bool,
    ) -> anyhow::Result<Effect> {
        let watch = self.watch(concerns);
        change.await?;
        let effect = watch.effect().await?;
        self.must_live()?;
        Ok(effect)
    }

    /// From now on, watches for what a change comes to.
    pub fn watch<C: Fn(&Plan) -> bool>(&self, concerns: C) -> Watch<'_, C> {
        let astray = self.counts_of(|plan| !concerns(plan));
        Watch { fleet: self, from: Instant::now(), sent: self.counts(), astray, concerns }
    }
}

/// A change that is under way.
#[derive(Debug)]
pub struct Watch<'a, C> {
    fleet: &'a Fleet,
    from: Instant,
    sent: Counts,
    astray: Counts,
    concerns: C,
}

impl<C: Fn(&Plan) -> bool> Watch<'_, C> {
    /// Waits until each of the proxies that it concerns has acknowledged it, and nothing more comes.
    pub async fn effect(self) -> anyhow::Result<Effect> {
        let Self { fleet, from, sent, astray, concerns } = self;
        let concerned: Vec<&Client> = fleet.clients.iter().filter(|client| concerns(&client.plan)).collect();
        let late = |client: &&&Client| client.seen.acknowledged().is_none_or(|at| at < from);
        while let Some(late) = concerned.iter().find(late) {
            ensure!(from.elapsed() < PATIENCE, "{} has not acknowledged after {PATIENCE:?}", late.plan.name);
            tokio::time::sleep(LOOK).await;
        }
        fleet.quiet().await?;
        let latency =
            |client: &Client| client.seen.acknowledged().map(|at| at.saturating_duration_since(from));
        Ok(Effect {
            latencies: concerned.into_iter().filter_map(latency).collect(),
            sent: fleet.counts() - sent,
            astray: fleet.counts_of(|plan| !concerns(plan)) - astray,
        })
    }
}
