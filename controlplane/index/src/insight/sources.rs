//! Who says what of a proxy, and which of it counts. Pure.
//!
//! An agent talks to one replica at a time. So a replica that has its connection is right, whatever others remember; of
//! several (one has not noticed yet that the agent went) the one with the newest connection; and if none has it, the one
//! that had it last. In which order the news arrive does not matter. A certificate outlives connections: the one that was
//! signed last counts, whoever signed it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use ursa_model::ProxyId;

use super::behind::{Behind, together};
use super::{Certificate, ProxyInsight};

#[derive(Debug, Default)]
pub(super) struct Sources {
    /// What agents say to this replica.
    own: HashMap<ProxyId, ProxyInsight>,
    /// What other replicas say.
    others: BTreeMap<String, Other>,
    /// The last word of replicas that are not heard of any more.
    lost: HashMap<ProxyId, ProxyInsight>,
    /// Zone ingresses that somebody speaks of: few among many, and asked for often.
    ingresses: BTreeSet<ProxyId>,
    streams: u64,
}

#[derive(Debug, Default)]
struct Other {
    /// The newest of its streams.
    stream: u64,
    said: HashMap<ProxyId, (String, ProxyInsight)>,
}

impl Sources {
    pub(super) fn own_mut(&mut self, proxy: &ProxyId) -> &mut ProxyInsight {
        if proxy.mesh.is_empty() && !self.ingresses.contains(proxy) {
            self.ingresses.insert(proxy.clone());
        }
        self.own.entry(proxy.clone()).or_default()
    }

    /// What is known of zone ingresses.
    pub(super) fn ingresses(&self) -> Vec<(ProxyId, ProxyInsight)> {
        self.ingresses.iter().filter_map(|id| Some((id.clone(), self.merged(id, None)?))).collect()
    }

    /// Forgets an ingress that nobody speaks of any more.
    fn forget_ingress(&mut self, proxy: &ProxyId) {
        if proxy.mesh.is_empty() && self.entries(proxy, None).next().is_none() {
            self.ingresses.remove(proxy);
        }
    }

    /// All that is said of a proxy by all but one.
    fn entries<'a>(
        &'a self,
        proxy: &'a ProxyId,
        but: Option<&'a str>,
    ) -> impl Iterator<Item = &'a ProxyInsight> {
        let others = self.others.iter().filter(move |(replica, _)| Some(replica.as_str()) != but);
        let said = others.filter_map(|(_, other)| other.said.get(proxy).map(|(_, insight)| insight));
        self.own.get(proxy).into_iter().chain(said).chain(self.lost.get(proxy))
    }

    /// What is known of a proxy, by all but one.
    pub(super) fn merged(&self, proxy: &ProxyId, but: Option<&str>) -> Option<ProxyInsight> {
        if proxy.is_mesh_itself() {
            let own = self.own.get(proxy).map(|insight| insight.behind.as_ref());
            let behind = together(own.into_iter().chain(self.said_of(proxy, but)))?;
            return Some(ProxyInsight { behind: Arc::new(behind), ..ProxyInsight::default() });
        }
        let own = self.own.get(proxy);
        let best = best(self.entries(proxy, but))?;
        let counts = own.filter(|own| std::ptr::eq(*own, best)).map(|own| (own.acknowledged, own.responses));
        let (acknowledged, responses) = counts.unwrap_or_default();
        let certificate = self.certificate(proxy, but).cloned();
        Some(ProxyInsight { acknowledged, responses, certificate, ..best.clone() })
    }

    /// Who is right about a proxy's connection.
    pub(super) fn best(&self, proxy: &ProxyId) -> Option<&ProxyInsight> {
        let others = self.others.values().filter_map(|other| other.said.get(proxy).map(|(_, said)| said));
        best(self.own.get(proxy).into_iter().chain(others).chain(self.lost.get(proxy)))
    }

    /// Whether what its agent says to this replica is what counts of a proxy.
    pub(super) fn is_own(&self, proxy: &ProxyId) -> bool {
        let own = self.own.get(proxy);
        own.is_some_and(|own| self.best(proxy).is_some_and(|best| std::ptr::eq(own, best)))
    }

    /// What other replicas but one say of a mesh itself, each; one that says nothing knows nothing.
    fn said_of<'a>(
        &'a self,
        mesh: &'a ProxyId,
        but: Option<&'a str>,
    ) -> impl Iterator<Item = &'a BTreeMap<String, Behind>> {
        static NOTHING: BTreeMap<String, Behind> = BTreeMap::new();
        let others = self.others.iter().filter(move |(replica, _)| Some(replica.as_str()) != but);
        others.map(move |(_, other)| other.said.get(mesh).map_or(&NOTHING, |(_, said)| said.behind.as_ref()))
    }

    /// What all other replicas say of a mesh itself; `None` if there are none.
    pub(super) fn of_mesh(&self, mesh: &ProxyId) -> Option<BTreeMap<String, Behind>> {
        together(self.said_of(mesh, None))
    }

    /// What others know of a proxy's agent.
    pub(super) fn elsewhere(&self, proxy: &ProxyId) -> Option<ProxyInsight> {
        let said = self.others.values().filter_map(|other| other.said.get(proxy).map(|(_, insight)| insight));
        best(said.chain(self.lost.get(proxy))).cloned()
    }

    /// The certificate that a proxy holds, as far as all but one know.
    pub(super) fn certificate<'a>(
        &'a self,
        proxy: &'a ProxyId,
        but: Option<&'a str>,
    ) -> Option<&'a Certificate> {
        newest(self.entries(proxy, but))
    }

    /// Every proxy, once, that all but one speak of.
    pub(super) fn proxies<'a>(&'a self, but: Option<&'a str>) -> impl Iterator<Item = &'a ProxyId> {
        let others = move || self.others.iter().filter(move |(replica, _)| Some(replica.as_str()) != but);
        let said = others().flat_map(move |(replica, other)| {
            let new = move |proxy: &&ProxyId| {
                let mut before = others().take_while(|(earlier, _)| *earlier < replica);
                !self.own.contains_key(*proxy) && !before.any(|(_, other)| other.said.contains_key(*proxy))
            };
            other.said.keys().filter(new)
        });
        let lost = self.lost.keys().filter(move |proxy| {
            !self.own.contains_key(*proxy) && !others().any(|(_, other)| other.said.contains_key(*proxy))
        });
        self.own.keys().chain(said).chain(lost)
    }

    pub(super) fn joined(&mut self, replica: &str) -> u64 {
        self.streams += 1;
        self.others.entry(replica.to_owned()).or_default().stream = self.streams;
        self.streams
    }

    pub(super) fn said(&self, replica: &str) -> BTreeMap<ProxyId, String> {
        let said = self.others.get(replica).into_iter().flat_map(|other| &other.said);
        said.map(|(proxy, (version, _))| (proxy.clone(), version.clone())).collect()
    }

    pub(super) fn take(
        &mut self,
        replica: &str,
        stream: u64,
        upserts: Vec<(ProxyId, String, ProxyInsight)>,
        removals: Vec<ProxyId>,
    ) -> Option<Vec<(ProxyId, bool)>> {
        let other = self.others.get_mut(replica).filter(|other| other.stream == stream)?;
        let mut changed = Vec::with_capacity(upserts.len() + removals.len());
        for (proxy, version, insight) in upserts {
            if proxy.mesh.is_empty() {
                self.ingresses.insert(proxy.clone());
            }
            let before = other.said.get(&proxy);
            let more = before.is_none_or(|(_, before)| insight.differs_in_more_than_peers(before));
            other.said.insert(proxy.clone(), (version, insight));
            changed.push((proxy, more));
        }
        for proxy in &removals {
            other.said.remove(proxy);
        }
        removals.iter().for_each(|proxy| self.forget_ingress(proxy));
        changed.extend(removals.into_iter().map(|proxy| (proxy, true)));
        Some(changed)
    }

    pub(super) fn left(
        &mut self,
        replica: &str,
        stream: u64,
        since: Timestamp,
        exists: impl Fn(&ProxyId) -> bool,
    ) -> Vec<ProxyId> {
        if self.others.get(replica).is_none_or(|other| other.stream != stream) {
            return Vec::new();
        }
        let said = self.others.remove(replica).unwrap_or_default().said;
        let mut changed = Vec::with_capacity(said.len());
        for (proxy, (_, mut last)) in said {
            if last.connected {
                (last.connected, last.unheard_since) = (false, Some(since));
            }
            if exists(&proxy) {
                let before = self.lost.remove(&proxy);
                let all = || before.iter().chain([&last]);
                if let Some(best) = best(all()) {
                    let kept = ProxyInsight { certificate: newest(all()).cloned(), ..best.clone() };
                    self.lost.insert(proxy.clone(), kept);
                }
            }
            self.forget_ingress(&proxy);
            changed.push(proxy);
        }
        // What all others say of a mesh together may be more without it, also if it never said anything of that.
        let meshes = self.proxies(None).filter(|proxy| proxy.is_mesh_itself() && !changed.contains(proxy));
        let meshes: BTreeSet<ProxyId> = meshes.cloned().collect();
        changed.extend(meshes);
        changed
    }

    pub(super) fn remove(&mut self, proxy: &ProxyId) {
        self.own.remove(proxy);
        self.lost.remove(proxy);
        for other in self.others.values_mut() {
            other.said.remove(proxy);
        }
        self.forget_ingress(proxy);
    }
}

/// Who is right about the connection.
fn best<'a>(entries: impl Iterator<Item = &'a ProxyInsight>) -> Option<&'a ProxyInsight> {
    entries.max_by_key(|entry| (entry.connected, entry.connected_at, entry.unheard_since.is_none()))
}

fn newest<'a>(entries: impl Iterator<Item = &'a ProxyInsight>) -> Option<&'a Certificate> {
    let certificates = entries.filter_map(|entry| entry.certificate.as_ref());
    certificates.max_by_key(|certificate| (certificate.signed_at, certificate.expires))
}
