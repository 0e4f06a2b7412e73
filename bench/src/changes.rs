//! Changes, one kind after the other, to dataplanes that are connected.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::Method;

use crate::figures::{Sheet, number};
use crate::fleet::{Effect, Fleet};
use crate::measures as m;
use crate::objects;
use crate::plan::{MESH, Plan, SERVICE};
use crate::plane::Plane;

/// Where changes are made and seen.
#[derive(Debug)]
pub struct Place<'a> {
    /// Where resources are applied.
    pub global: &'a Plane,
    /// The zone that is measured.
    pub near: &'a Plane,
    /// Its dataplanes.
    pub fleet: &'a Fleet,
    /// Dataplanes of another zone.
    pub far: Option<&'a Fleet>,
    /// Whether nothing comes but by what is changed here; other zones tell each other more.
    pub alone: bool,
}

impl Place<'_> {
    /// Everybody may call, or everybody of one service: changes the inbound of every proxy of the mesh. The first change
    /// is not counted.
    pub async fn policies(&self, changes: usize, sheet: &mut Sheet) -> anyhow::Result<()> {
        let path = objects::permission_path(MESH);
        let (mut cpu, mut global_cpu) = (Duration::ZERO, Duration::ZERO);
        for change in 0..=changes {
            let source = if change % 2 == 0 { SERVICE } else { "*" };
            let before = (self.near.cpu()?, self.global.cpu()?);
            let near = self.fleet.watch(in_default_mesh);
            let far = self.far.map(|far| far.watch(in_default_mesh));
            self.global.put(&path, &objects::permission(source)).await?;
            let near = near.effect().await?;
            self.fleet.must_live()?;
            let far = match far {
                Some(far) => Some(far.effect().await?),
                None => None,
            };
            self.must_not_stray("a policy of one mesh", &near)?;
            if change == 0 {
                continue;
            }
            cpu += self.near.cpu()?.saturating_sub(before.0);
            global_cpu += self.global.cpu()?.saturating_sub(before.1);
            sheet.times(m::POLICY, &near.latencies);
            sheet.one(m::POLICY_BYTES, number(near.sent.bytes));
            if let Some(far) = far {
                sheet.times(m::FAR_POLICY, &far.latencies);
            }
        }
        if changes.is_multiple_of(2) {
            // It ends as it began.
            let back = objects::permission("*");
            self.fleet.effect(self.global.put(&path, &back), in_default_mesh).await?;
        }
        sheet.one(m::POLICY_CPU, each(cpu, changes));
        sheet.one(m::GLOBAL_CPU, each(global_cpu, changes));
        Ok(())
    }

    /// How those who call one service choose an instance. The first change is not counted.
    pub async fn routes(&self, changes: usize, sheet: &mut Sheet) -> anyhow::Result<()> {
        let mut cpu = Duration::ZERO;
        for change in 0..=changes {
            let balancer = if change % 2 == 0 { "LeastRequest" } else { "Random" };
            let (before, path, route) = (self.near.cpu()?, objects::route_path(), objects::route(balancer));
            let put = self.global.put(&path, &route);
            let effect = self.fleet.effect(put, calls_it).await?;
            self.must_not_stray("a route of one service", &effect)?;
            if change > 0 {
                cpu += self.near.cpu()?.saturating_sub(before);
                sheet.times(m::ROUTE, &effect.latencies);
            }
        }
        sheet.one(m::ROUTE_CPU, each(cpu, changes));
        Ok(())
    }

    fn must_not_stray(&self, what: &str, effect: &Effect) -> anyhow::Result<()> {
        let responses = effect.astray.responses;
        let is_right = responses == 0 || !self.alone;
        ensure!(is_right, "{what} reached those whom it does not concern: {responses} responses");
        Ok(())
    }

    /// An instance becomes unready and ready again; `far`: who sees that in another zone. The first two changes are not
    /// counted.
    pub async fn endpoints(
        &self,
        changes: usize,
        far: Option<&Fleet>,
        sheet: &mut Sheet,
    ) -> anyhow::Result<()> {
        let serves = |plan: &Plan| in_default_mesh(plan) && plan.serves == SERVICE;
        let instance = self.fleet.clients.iter().find(|client| serves(&client.plan));
        let instance = instance.context("the service has an instance")?;
        let mut cpu = Duration::ZERO;
        // It ends as it began: ready.
        let changes = changes + changes % 2;
        for change in 0..changes + 2 {
            let before = self.near.cpu()?;
            let say = async {
                instance.ready(change % 2 == 1);
                Ok(())
            };
            let far = far.map(|far| far.watch(calls_it));
            let effect = self.fleet.effect(say, calls_it).await?;
            self.must_not_stray("an endpoint of one service", &effect)?;
            let far = match far {
                Some(far) => Some(far.effect().await?),
                None => None,
            };
            if change < 2 {
                continue;
            }
            cpu += self.near.cpu()?.saturating_sub(before);
            sheet.times(m::ENDPOINT, &effect.latencies);
            sheet.one(m::ENDPOINT_PROXIES, number(effect.latencies.len() as u64));
            sheet.one(m::ENDPOINT_BYTES, number(effect.sent.bytes));
            if let Some(far) = far {
                sheet.times(m::FAR_ENDPOINT, &far.latencies);
            }
        }
        sheet.one(m::ENDPOINT_CPU, each(cpu, changes));
        Ok(())
    }

    /// Stores what is stored, says what was said, and registers who is registered; that must cause no response.
    pub async fn no_ops(&self, repetitions: usize, sheet: &mut Sheet) -> anyhow::Result<()> {
        let path = objects::permission_path(MESH);
        let (_, route) = self.global.send(Method::GET, &objects::route_path(), None).await?;
        let route =
            objects::route(route["spec"]["conf"]["loadBalancer"]["type"].as_str().unwrap_or_default());
        let before = self.fleet.counts().responses;
        let client = self.fleet.clients.first().context("there is a client")?;
        for _ in 0..repetitions {
            self.global.put(&path, &objects::permission("*")).await?;
            self.global.put(&objects::route_path(), &route).await?;
            client.ready(true);
            client.register_again();
        }
        self.fleet.quiet().await?;
        self.fleet.must_live()?;
        let responses = self.fleet.counts().responses - before;
        ensure!(responses == 0, "{responses} responses although nothing changed");
        sheet.one(m::NO_OP_RESPONSES, number(responses));
        Ok(())
    }
}

/// Whether it is a dataplane of the mesh in which changes are made.
pub fn in_default_mesh(plan: &Plan) -> bool {
    plan.mesh == MESH
}

/// Whether it calls the service that changes.
pub fn calls_it(plan: &Plan) -> bool {
    in_default_mesh(plan) && plan.calls(SERVICE)
}

/// CPU seconds of one of so many changes.
pub fn each(sum: Duration, changes: usize) -> f64 {
    sum.as_secs_f64() / number(changes.max(1) as u64)
}
