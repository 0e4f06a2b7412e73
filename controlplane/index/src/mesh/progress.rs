//! How far the proxies of this zone enforce the mesh and its policies.
//!
//! A proxy that has acknowledged the snapshot of a number enforces every change up to that number, also those that changed
//! nothing for it. Of proxies whose agents talk to other replicas those say how many are behind ([`Behind`]). Invariant:
//! what is not known for certain is not enforced.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;
use ursa_crds::{
    DataplaneSpec, Enforcement, Kind, MAX_LAGGARDS, MeshZoneInsightSpec, Meta, Object, ObjectKey, Refusal,
    Spec,
};
use ursa_model::{ProxyId, fingerprint};
use ursa_policy::MeshView;

use super::MeshState;
use crate::insight::{Behind, Insights, ProxyInsight};
use crate::offer::Offer;

/// After a look at all proxies comes a pause of so many times what it took, so that with many it takes a small part of the
/// writer's time.
const PAUSE: u32 = 10;

/// A state of a resource that snapshots follow.
#[derive(Debug)]
pub(super) struct InForce {
    generation: u64,
    /// The index's number when snapshots began to follow it.
    since: u64,
    /// Workloads that it reaches.
    reached: Arc<[String]>,
}

/// What is known of a proxy that counts.
struct Known {
    insight: ProxyInsight,
    /// Its agent talks to this replica.
    is_own: bool,
}

/// Where one proxy stands with one resource.
enum Standing {
    Follows,
    Lags,
    Refuses(String),
    /// The replica that knows says so.
    AskedElsewhere,
    Unheard,
}

/// Under which UID and generation it is said how far a zone's proxies trust the roots of a zone.
pub fn trusts(zone: &str, roots: &str) -> (String, u64) {
    let digits: String = fingerprint(&roots).to_string().chars().take(12).collect();
    (format!("roots/{zone}"), u64::from_str_radix(&digits, 16).unwrap_or_default())
}

impl MeshState {
    /// Takes note of what snapshots of this number follow; the changes that are new.
    pub(super) fn note_in_force(
        &mut self,
        view: &MeshView,
        resources: &[Arc<Object>],
        sequence: u64,
    ) -> BTreeSet<String> {
        let references: Vec<&Object> = resources.iter().map(AsRef::as_ref).collect();
        let reached = view.reached(&references);
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<Arc<[String]>>();
        let everybody = owned(view.members_by_name().collect());
        let roots = view.trusted_zones().map(|(zone, roots)| (trusts(zone, roots), everybody.clone()));
        let objects = references.into_iter().map(|object| (object.meta.uid.clone(), object.meta.generation));
        let mut before = std::mem::take(&mut self.in_force);
        let mut new = BTreeSet::new();
        for ((uid, generation), reached) in objects.zip(reached.into_iter().map(owned)).chain(roots) {
            let known = before.remove(&uid).filter(|known| known.generation == generation);
            if known.is_none() {
                new.insert(uid.clone());
            }
            let since = known.map_or(sequence, |known| known.since);
            self.in_force.insert(uid, InForce { generation, since, reached });
        }
        // Who goes on with what a deleted resource said follows something that is not in force any more.
        new.extend(before.into_keys());
        new
    }

    /// An agent says that its proxy follows the snapshot of this number; 0: it has just come.
    pub(crate) fn acknowledged(&mut self, proxy: &str, sequence: u64) {
        if let Some(subscriber) = self.subscribers.get_mut(proxy) {
            subscriber.acknowledged(sequence);
            self.progress_dirty = true;
        }
    }

    /// What this zone says of how its proxies follow the mesh, if that may have changed.
    pub(crate) fn progress(&mut self, name: &str, zone: &str, insights: &Insights) -> Option<Offer> {
        let begun = Instant::now();
        if !self.progress_dirty || self.progress_not_before.is_some_and(|at| at > begun) {
            return None;
        }
        self.progress_dirty = false;
        let key = ObjectKey::in_mesh(Kind::MeshZoneInsight, name, zone);
        if self.view.is_none() {
            insights.says_of_mesh(name, BTreeMap::new());
            return Some(Offer::Withdrawn(key));
        }
        let said = insights.of_mesh(name);
        let known = self.known(name, insights, Timestamp::now());
        let mut own = BTreeMap::new();
        let mut resources = Vec::with_capacity(self.in_force.len());
        for (uid, in_force) in &self.in_force {
            let (behind, enforcement) = self.enforcement(uid, in_force, &known, said.as_ref());
            own.insert(uid.clone(), behind);
            resources.push(enforcement);
        }
        insights.says_of_mesh(name, own);
        self.progress_not_before = Some(begun + begun.elapsed() * PAUSE);
        let spec = MeshZoneInsightSpec { mesh: name.to_owned(), resources };
        let meta = Meta { name: zone.to_owned(), ..Meta::default() };
        Some(Offer::Offered(Box::new(Object { meta, spec: Spec::MeshZoneInsight(spec) })))
    }

    /// Of the proxies that talk to this replica, and of all. `said`: what other replicas say; `None`: there are none.
    fn enforcement(
        &self,
        uid: &str,
        in_force: &InForce,
        known: &HashMap<String, Known>,
        said: Option<&BTreeMap<String, Behind>>,
    ) -> (Behind, Enforcement) {
        let InForce { generation, since, reached } = in_force;
        let mut own = Behind { generation: *generation, ..Behind::default() };
        let mut all = Enforcement { uid: uid.to_owned(), generation: *generation, ..Enforcement::default() };
        let mut elsewhere = Vec::new();
        let mut lags = BTreeSet::new();
        for proxy in reached.iter() {
            let Some(Known { insight, is_own }) = known.get(proxy) else { continue };
            all.total += 1;
            match self.standing(proxy, uid, *since, insight, *is_own) {
                Standing::Follows => all.acked += 1,
                Standing::AskedElsewhere => elsewhere.push(proxy),
                Standing::Unheard => all.unheard += 1,
                Standing::Lags => {
                    own.proxies += u32::from(insight.connected);
                    lags.insert(proxy.clone());
                }
                Standing::Refuses(message) => {
                    own.proxies += 1;
                    own.refusals.insert(Refusal { dataplane: proxy.clone(), message });
                }
            }
        }
        own.laggards.clone_from(&lags);
        all.rejections.extend(own.refusals.iter().cloned());
        let mut replicas_follow = true;
        if let Some(said) = said {
            let of = said.get(uid).filter(|of| of.generation == *generation);
            replicas_follow = of.is_some();
            let behind = of.map_or(elsewhere.len(), |of| elsewhere.len().min(of.proxies as usize));
            all.acked += u32::try_from(elsewhere.len() - behind).unwrap_or(u32::MAX);
            match of {
                Some(of) => {
                    lags.extend(of.laggards.iter().cloned());
                    all.rejections.extend(of.refusals.iter().cloned());
                }
                None => lags.extend(elsewhere.into_iter().cloned()),
            }
        } else {
            // The replica that they talk to is about to be given up.
            lags.extend(elsewhere.into_iter().cloned());
        }
        all.enforced = replicas_follow && all.acked == all.total;
        all.laggards = lags.into_iter().take(MAX_LAGGARDS).collect();
        all.rejections.sort();
        all.rejections.truncate(MAX_LAGGARDS);
        own.truncate();
        (own, all)
    }

    /// The proxies that count.
    fn known(&self, mesh: &str, insights: &Insights, now: Timestamp) -> HashMap<String, Known> {
        let proxies: BTreeSet<&String> = self.in_force.values().flat_map(|of| of.reached.iter()).collect();
        let known = proxies.into_iter().map(|proxy| {
            let id = ProxyId::new(mesh, proxy);
            let known =
                Known { insight: insights.get(&id).unwrap_or_default(), is_own: insights.is_own(&id) };
            (proxy.clone(), known)
        });
        known.filter(|(proxy, known)| self.is_known(mesh, proxy, &known.insight, now)).collect()
    }

    /// Whether a proxy counts: one that has yet to start gets the newest state with its first.
    fn is_known(&self, mesh: &str, proxy: &str, insight: &ProxyInsight, now: Timestamp) -> bool {
        let dataplane = self.objects.get(&ObjectKey::in_mesh(Kind::Dataplane, mesh, proxy));
        let Some(Spec::Dataplane(DataplaneSpec { pod, .. })) = dataplane.map(|object| &object.spec) else {
            return false;
        };
        if let Some(pod) = pod {
            return pod.started;
        }
        let certified = insight.certificate.as_ref().is_some_and(|held| held.expires > now);
        insight.connected || insight.unheard_since.is_some() || certified
    }

    /// `is_own`: its agent talks to this replica.
    fn standing(&self, proxy: &str, uid: &str, since: u64, insight: &ProxyInsight, is_own: bool) -> Standing {
        let subscriber = self.subscribers.get(proxy).filter(|_| insight.connected && is_own);
        let Some(subscriber) = subscriber else {
            return match insight {
                ProxyInsight { connected: true, .. } => Standing::AskedElsewhere,
                ProxyInsight { unheard_since: Some(_), .. } => Standing::Unheard,
                _ => Standing::Lags,
            };
        };
        if subscriber.enforced() < since {
            return Standing::Lags;
        }
        let mut refused = insight.rejections.iter().filter(|(key, _)| subscriber.is_cause(uid, key));
        refused
            .next()
            .map_or(Standing::Follows, |(_, rejection)| Standing::Refuses(rejection.message.clone()))
    }
}
