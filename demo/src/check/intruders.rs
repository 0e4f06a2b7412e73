//! Step 8: clients that must not get one byte from redis, busy from mutual TLS on until the end.
//!
//! So that silence means something, the same client with a rightful certificate must be answered in the end.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use ursa_identity::ZoneCa;
use ursa_model::TrustDomain;
use ursa_store::Store;

use crate::Demo;
use crate::peer::{Peer, hears_in_the_clear};
use crate::resources::MESH;

const WORDS: &[u8] = b"PING\r\n";
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(100);
/// The backend of the mesh in `resources/mesh-mtls.yaml`.
const BACKEND: &str = "ca-1";
/// For the copy of a store that is being written to be whole.
const COPY: Duration = Duration::from_secs(5);

/// Those who try to get in, one round after the other, in each zone at once.
pub(super) struct Intruders {
    stop: CancellationToken,
    rounds: JoinSet<anyhow::Result<Tally>>,
    gang: Arc<Gang>,
    zones: Vec<Target>,
}

#[derive(Clone)]
struct Target {
    zone: String,
    inbound: SocketAddr,
}

/// By who tried: how often.
type Tally = BTreeMap<&'static str, u32>;

/// The certificates that they show.
struct Gang {
    /// Signed by another authority, for an identity of this mesh.
    stranger: Peer,
    /// Signed by another mesh's authority, for an identity of that mesh.
    other_mesh: Peer,
    /// Signed by the key of zone west, for an identity of zone east.
    forger: Peer,
    /// Signed by the key of zone west, for an identity of zone west: who may call.
    rightful: Peer,
}

impl Gang {
    async fn gather(demo: &Demo) -> anyhow::Result<Self> {
        let zone = demo.topology().zones.last().context("the demo has zones")?;
        let stolen = steal(&demo.store(zone), &demo.store(zone).with_extension("stolen")).await?;
        let authority = |zone: &str, mesh: &str| -> anyhow::Result<String> {
            Ok(ZoneCa::generate(&TrustDomain::new(zone, mesh), Timestamp::now())?.to_private_pem().clone())
        };
        let id = |zone: &str, mesh: &str| {
            format!("spiffe://{zone}.{mesh}.ursa/service/demo-app/ns/-/tags/-/proxy/demo-app-{zone}")
        };
        Ok(Self {
            stranger: Peer::forge(&authority("east", MESH)?, &id("east", MESH))?,
            other_mesh: Peer::forge(&authority("east", "other")?, &id("east", "other"))?,
            forger: Peer::forge(&stolen, &id("east", MESH))?,
            rightful: Peer::forge(&stolen, &id(&zone.name, MESH))?,
        })
    }

    /// Every intruder tries once.
    async fn attack(&self, target: &Target, tally: &mut Tally) -> anyhow::Result<()> {
        let inbound = target.inbound;
        let heard = tokio::join!(
            hears_in_the_clear(inbound, WORDS),
            hears_in_the_clear(inbound, b""),
            self.other_mesh.hears(inbound, WORDS),
            self.stranger.hears(inbound, WORDS),
            self.forger.hears(inbound, WORDS),
        );
        let attempts = [
            ("plaintext", heard.0),
            ("plaintext, silent", heard.1),
            ("another mesh's CA", heard.2),
            ("a foreign CA", heard.3),
            ("west's key for an identity of east", heard.4),
        ];
        for (who, heard) in attempts {
            let heard = heard.with_context(|| format!("{who} at the redis of {}", target.zone))?;
            ensure!(heard.is_empty(), "{who} got {heard:?} from the redis of {}", target.zone);
            *tally.entry(who).or_default() += 1;
        }
        Ok(())
    }

    async fn until(self: Arc<Self>, target: Target, stop: CancellationToken) -> anyhow::Result<Tally> {
        let mut tally = Tally::new();
        while !stop.is_cancelled() {
            self.attack(&target, &mut tally).await?;
            sleep(PAUSE).await;
        }
        // Once more for certain after everything else.
        self.attack(&target, &mut tally).await?;
        Ok(tally)
    }
}

impl Intruders {
    /// Sends them to the redis of every zone.
    pub(super) async fn send(demo: &Demo) -> anyhow::Result<Self> {
        let gang = Arc::new(Gang::gather(demo).await.context("cannot equip the intruders")?);
        let target = |zone: &crate::topology::Zone| Target {
            zone: zone.name.clone(),
            inbound: zone.redis().inbound(),
        };
        let zones: Vec<Target> = demo.topology().zones.iter().map(target).collect();
        let stop = CancellationToken::new();
        let rounds = zones.iter().map(|zone| gang.clone().until(zone.clone(), stop.clone())).collect();
        Ok(Self { stop, rounds, gang, zones })
    }

    /// Ends their attempts; how many there were. Fails if one of them heard anything, or if the rightful one is not
    /// answered.
    pub(super) async fn report(self) -> anyhow::Result<String> {
        self.stop.cancel();
        let mut sum = Tally::new();
        for tally in self.rounds.join_all().await {
            for (who, count) in tally? {
                *sum.entry(who).or_default() += count;
            }
        }
        for Target { zone, inbound } in &self.zones {
            let heard = self.gang.rightful.hears(*inbound, WORDS).await?;
            ensure!(heard == "+PONG\r\n", "a rightful client heard {heard:?} from the redis of {zone}");
        }
        let lines: Vec<String> =
            sum.iter().map(|(who, count)| format!("{who}: {count} attempts, 0 bytes")).collect();
        Ok(format!(
            "{}\nthe same client with a rightful certificate is answered in every zone",
            lines.join("\n")
        ))
    }
}

/// A zone's authority, certificate and key, as only a thief would have it: no API gives it out.
async fn steal(store: &Path, copy: &Path) -> anyhow::Result<String> {
    let deadline = Instant::now() + COPY;
    loop {
        let stolen = || -> anyhow::Result<String> {
            // A copy of a file that is being written may be torn.
            fs::copy(store, copy)?;
            let authority = Store::open(copy)?.private(&format!("ca/{MESH}/{BACKEND}"));
            Ok(String::from_utf8(authority.context("the zone has no authority yet")?)?)
        };
        let stolen = stolen();
        fs::remove_file(copy).with_context(|| format!("cannot remove {}", copy.display()))?;
        match stolen {
            Ok(stolen) => return Ok(stolen),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => sleep(PAUSE).await,
        }
    }
}
