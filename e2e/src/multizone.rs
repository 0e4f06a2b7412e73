//! Global and three zones, each with a client and a server of the same services.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;

use crate::{
    ANYBODY, Agent, Banner, ControlPlane, MTLS, Workload, World, answer, eventually, permission, refused,
};

/// Generous: the figures are printed, not judged.
const SOON: Duration = Duration::from_secs(10);
/// The zones.
pub const ZONES: [&str; 3] = ["aws", "east", "west"];

/// A zone with a client and a server.
#[derive(Debug)]
pub struct Zone {
    /// Its name.
    pub name: &'static str,
    /// Its control plane.
    pub plane: ControlPlane,
    /// Its ingress.
    pub ingress: Agent,
    /// The agent of its server.
    pub server: Agent,
    /// The agent of its client.
    pub client: Agent,
    _banner: Banner,
    /// Where the server's proxy takes traffic of the mesh.
    pub inbound: SocketAddr,
    /// Where the client's proxy takes the client's calls to the server.
    pub outbound: SocketAddr,
}

impl Zone {
    /// A private value of the zone's store, as only a thief would have it: from a copy of the file.
    pub fn stolen(&self, name: &str) -> anyhow::Result<String> {
        let copy = self.plane.data.with_extension("stolen");
        std::fs::copy(self.plane.data.join("store.redb"), &copy)?;
        let stored = ursa_store::Store::open(&copy)?.private(name);
        let stored = stored.with_context(|| format!("zone {} has no {name}", self.name))?;
        Ok(String::from_utf8(stored)?)
    }
}

/// In each zone a client that calls the service `server`, and an instance of it that answers with the zone's name.
#[derive(Debug)]
pub struct Multizone {
    /// Where it all runs.
    pub world: World,
    /// Where resources are applied.
    pub global: ControlPlane,
    /// In the order of [`ZONES`].
    pub zones: Vec<Zone>,
}

impl Multizone {
    /// Starts it all for the test of this name.
    pub async fn start(test: &str) -> anyhow::Result<Self> {
        Self::start_in(World::new(test)?).await
    }

    /// The same in a world that there is.
    pub async fn start_in(world: World) -> anyhow::Result<Self> {
        let global = world.global().await?;
        let mut zones = Vec::new();
        for (name, number) in ZONES.into_iter().zip(1..) {
            let plane = world.zone(&global, name, number).await?;
            let ingress = world.ingress(&plane, number).await?;
            let application = SocketAddr::new(world.addresses.host(number, 4), 16379);
            let banner = Banner::start(application, name).await?;
            let inbound = SocketAddr::new(application.ip(), 6379);
            let server = Workload::new(&format!("server-{name}"), inbound.ip());
            let server = world
                .agent(&plane, &server.serves("server", 6379, application, &[("version", "v1")]))
                .await?;
            let outbound = SocketAddr::new(world.addresses.host(number, 3), 26379);
            let own = SocketAddr::new(outbound.ip(), 5000);
            let client = Workload::new(&format!("client-{name}"), outbound.ip());
            let client = client.serves("client", 5001, own, &[]).calls("server", 26379);
            let client = world.agent(&plane, &client).await?;
            zones.push(Zone { name, plane, ingress, server, client, _banner: banner, inbound, outbound });
        }
        Ok(Self { world, global, zones })
    }

    /// Turns on mutual TLS, lets everybody call everybody, and waits until every zone reaches every zone.
    pub async fn open(&self) -> anyhow::Result<()> {
        let api = self.global.api()?;
        api.apply(MTLS).await?;
        for zone in &self.zones {
            eventually(&format!("{} refuses by default", zone.name), SOON, async || {
                refused(zone.outbound).await
            })
            .await?;
        }
        api.apply(&permission("allow-all", "Allow", ANYBODY)).await?;
        self.each_reaches(&ZONES).await
    }

    /// From every zone exactly these zones answer, and nothing fails.
    pub async fn each_reaches(&self, expected: &[&str]) -> anyhow::Result<()> {
        for zone in &self.zones {
            eventually(&format!("{} reaches {expected:?}", zone.name), SOON, async || {
                let seen = shares(zone.outbound, 24).await?;
                let names: Vec<&str> = seen.keys().map(String::as_str).collect();
                anyhow::ensure!(names == expected, "{seen:?}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}

/// How often each zone answers in so many calls, one after the other.
pub async fn shares(address: SocketAddr, calls: u32) -> anyhow::Result<BTreeMap<String, u32>> {
    let mut seen = BTreeMap::new();
    for _ in 0..calls {
        *seen.entry(answer(address).await?).or_default() += 1;
    }
    Ok(seen)
}
