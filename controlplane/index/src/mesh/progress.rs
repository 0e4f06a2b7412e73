//! How far the proxies of this zone enforce the mesh and its policies.
//!
//! A proxy that has acknowledged the snapshot of a number enforces every change up to that number, also those that changed
//! nothing for it. Of proxies whose agents talk to other replicas those say how many are behind ([`Behind`]). Invariant:
//! what is not known for certain is not enforced.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;
use ursa_crds::{
    Enforcement, Kind, MAX_LAGGARDS, MeshZoneInsightSpec, Meta, Object, ObjectKey, Pod, Refusal, Spec,
};
use ursa_model::fingerprint;
use ursa_policy::MeshView;

use super::MeshState;
use crate::cause::Suspect;
use crate::insight::{Behind, Insights, ProxyInsight};
use crate::offer::Offer;
use crate::subscriber::Subscriber;

/// After a look at all proxies comes a pause of so many times what it took, so that with many it takes a small part of the
/// writer's time.
pub(super) const PAUSE: u32 = 10;

/// A state of a resource that snapshots follow.
#[derive(Debug)]
pub(super) struct InForce {
    generation: u64,
    /// The index's number when snapshots began to follow it.
    since: u64,
    /// The same of any state of the resource.
    came: u64,
    /// The mesh or policy; `None`: roots.
    resource: Option<Arc<Object>>,
    reached: Reached,
}

/// Workloads that a resource reaches.
#[derive(Debug)]
enum Reached {
    /// All that are in the mesh.
    Everybody,
    /// These.
    Some(BTreeSet<String>),
}

impl InForce {
    fn reaches(&self, proxy: &str) -> bool {
        match &self.reached {
            Reached::Everybody => true,
            Reached::Some(names) => names.contains(proxy),
        }
    }
}

/// A policy before a change, and after it.
pub(super) type ChangedPolicy = (Option<Arc<Object>>, Option<Arc<Object>>);

/// What is known of the proxies of workloads in the mesh.
#[derive(Default)]
struct Known<'a> {
    /// How many workloads there are.
    members: usize,
    /// Those that do not count.
    uncounted: HashSet<&'a str>,
    /// Those that are not known to follow everything, by name.
    others: BTreeMap<&'a str, Other>,
}

struct Other {
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

/// What is behind a proxy's state once something is gone, and can be told so: the mesh, which decides where nothing else does.
fn in_place_of_the_gone(mesh: Option<&Arc<Object>>) -> Option<String> {
    mesh.map(|mesh| mesh.meta.uid.clone())
}

impl MeshState {
    /// Takes note of what snapshots of this number follow, all of it; the changes that are new.
    pub(super) fn note_in_force(
        &mut self,
        view: &MeshView,
        mesh: Option<&Arc<Object>>,
        sequence: u64,
    ) -> BTreeSet<String> {
        let mut before = std::mem::take(&mut self.in_force);
        let mut new = BTreeSet::new();
        let roots = view.trusted_zones().map(|(zone, roots)| (trusts(zone, roots), None));
        let policies = view.permissions().chain(view.followed_routes());
        let objects = mesh.into_iter().chain(policies);
        let objects = objects.map(|o| ((o.meta.uid.clone(), o.meta.generation), Some(o.clone())));
        for ((uid, generation), resource) in objects.chain(roots) {
            let known = before.remove(&uid);
            let came = known.as_ref().map_or(sequence, |known| known.came);
            let known = known.filter(|known| known.generation == generation);
            if known.is_none() {
                new.insert(uid.clone());
            }
            let since = known.map_or(sequence, |known| known.since);
            let reached = reached(view, resource.as_deref());
            self.in_force.insert(uid, InForce { generation, since, came, resource, reached });
        }
        if !before.is_empty() {
            new.extend(in_place_of_the_gone(mesh));
        }
        new
    }

    /// The same of policies of the mesh that have changed.
    pub(super) fn note_policies(
        &mut self,
        view: &MeshView,
        mesh: Option<&Arc<Object>>,
        changed: &[ChangedPolicy],
        sequence: u64,
    ) -> BTreeSet<String> {
        let mut new = BTreeSet::new();
        for (before, now) in changed {
            let known = before.as_ref().and_then(|before| self.in_force.remove_entry(&before.meta.uid));
            let Some(now) = now else {
                new.extend(in_place_of_the_gone(mesh));
                continue;
            };
            let (uid, generation) = (now.meta.uid.clone(), now.meta.generation);
            let same = known.as_ref().filter(|(of, _)| *of == uid);
            let came = same.map_or(sequence, |(_, known)| known.came);
            let same = same.filter(|(_, known)| known.generation == generation);
            let since = same.map_or(sequence, |(_, known)| known.since);
            if same.is_none() {
                new.insert(uid.clone());
            }
            let reached = reached(view, Some(now));
            let resource = Some(now.clone());
            self.in_force.insert(uid, InForce { generation, since, came, resource, reached });
        }
        new
    }

    /// Takes note of whom it reaches after changes of these workloads.
    pub(super) fn note_workloads(&mut self, view: &MeshView, workloads: &BTreeSet<String>) {
        if workloads.is_empty() {
            return;
        }
        for InForce { resource, reached, .. } in self.in_force.values_mut() {
            let (Some(resource), Reached::Some(reached)) = (resource, reached) else { continue };
            for workload in workloads {
                if view.is_reached(resource, workload) {
                    reached.insert(workload.clone());
                } else {
                    reached.remove(workload);
                }
            }
        }
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
        self.forget_unwanted();
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
        known: &Known<'_>,
        said: Option<&BTreeMap<String, Behind>>,
    ) -> (Behind, Enforcement) {
        let InForce { generation, since, came, resource, reached } = in_force;
        let suspect = Suspect { uid, kind: resource.as_ref().map(|resource| resource.kind()), came: *came };
        let mut own = Behind { generation: *generation, ..Behind::default() };
        let mut all = Enforcement { uid: uid.to_owned(), generation: *generation, ..Enforcement::default() };
        let mut elsewhere = Vec::new();
        let mut lags = BTreeSet::new();
        let reached = match reached {
            Reached::Everybody => known.members,
            Reached::Some(names) => names.len(),
        };
        let uncounted = known.uncounted.iter().filter(|proxy| in_force.reaches(proxy)).count();
        all.total = u32::try_from(reached - uncounted).unwrap_or(u32::MAX);
        all.acked = all.total;
        for (&proxy, Other { insight, is_own }) in &known.others {
            if !in_force.reaches(proxy) {
                continue;
            }
            let standing = self.standing(proxy, &suspect, *since, insight, *is_own);
            all.acked -= u32::from(!matches!(standing, Standing::Follows));
            match standing {
                Standing::Follows => {}
                Standing::AskedElsewhere => elsewhere.push(proxy.to_owned()),
                Standing::Unheard => all.unheard += 1,
                Standing::Lags => {
                    own.proxies += u32::from(insight.connected);
                    lags.insert(proxy.to_owned());
                }
                Standing::Refuses(message) => {
                    own.proxies += 1;
                    own.refusals.insert(Refusal { dataplane: proxy.to_owned(), message });
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
                None => lags.extend(elsewhere),
            }
        } else {
            // The replica that they talk to is about to be given up.
            lags.extend(elsewhere);
        }
        all.enforced = replicas_follow && all.acked == all.total;
        all.laggards = lags.into_iter().take(MAX_LAGGARDS).collect();
        all.rejections.sort();
        all.rejections.truncate(MAX_LAGGARDS);
        own.truncate();
        (own, all)
    }

    /// The proxies that count, as far as one has to look at them.
    fn known(&self, mesh: &str, insights: &Insights, now: Timestamp) -> Known<'_> {
        let mut known = Known::default();
        let Some(view) = &self.view else { return known };
        let newest = self.in_force.values().map(|in_force| in_force.since).max().unwrap_or_default();
        let nothing = ProxyInsight::default();
        insights.look_at(mesh, view.members_by_name(), |proxy, insight, certificate, is_own| {
            known.members += 1;
            let insight = insight.unwrap_or(&nothing);
            let certified = certificate.is_some_and(|held| held.expires > now);
            if !is_known(view.pod(proxy), insight, certified) {
                known.uncounted.insert(proxy);
                return;
            }
            let follows = |subscriber: &Subscriber| subscriber.enforced(self.considered) >= newest;
            let follows = insight.connected
                && is_own
                && insight.rejections.is_empty()
                && self.subscribers.get(proxy).is_some_and(follows);
            if !follows {
                known.others.insert(proxy, Other { insight: insight.clone(), is_own });
            }
        });
        known
    }

    /// `is_own`: its agent talks to this replica.
    fn standing(
        &self,
        proxy: &str,
        suspect: &Suspect<'_>,
        since: u64,
        insight: &ProxyInsight,
        is_own: bool,
    ) -> Standing {
        let subscriber = self.subscribers.get(proxy).filter(|_| insight.connected && is_own);
        let Some(subscriber) = subscriber else {
            return match insight {
                ProxyInsight { connected: true, .. } => Standing::AskedElsewhere,
                ProxyInsight { unheard_since: Some(_), .. } => Standing::Unheard,
                _ => Standing::Lags,
            };
        };
        if subscriber.enforced(self.considered) < since {
            return Standing::Lags;
        }
        let mut refused = insight.rejections.iter().filter(|(key, _)| subscriber.is_cause(suspect, key));
        refused
            .next()
            .map_or(Standing::Follows, |(_, rejection)| Standing::Refuses(rejection.message.clone()))
    }
}

/// Whom a resource reaches; `None`: the roots of a zone.
fn reached(view: &MeshView, resource: Option<&Object>) -> Reached {
    match resource {
        Some(resource) if resource.kind() != Kind::Mesh => {
            Reached::Some(view.reached(resource).into_iter().map(str::to_owned).collect())
        }
        _ => Reached::Everybody,
    }
}

/// Whether a proxy counts: one that has yet to start gets the newest state with its first.
fn is_known(pod: Option<&Pod>, insight: &ProxyInsight, certified: bool) -> bool {
    if let Some(pod) = pod {
        return pod.started;
    }
    insight.connected || insight.unheard_since.is_some() || certified
}
