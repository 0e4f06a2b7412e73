//! Tells users on the mesh and each policy whether proxies enforce it: the conditions `Programmed` and `ResolvedRefs`
//! (of a mesh `Rotated` too), and how far each zone is.
//!
//! Invariants: only the replica that leads writes, and on transitions only. That something is in force is told at once; that
//! it is not, once it has stayed so for a while, so that what is on its way is no news. The conditions have a field manager of
//! their own, so that what the store says of the same object (`Accepted`) neither changes nor removes them.

mod agenda;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use ursa_api::{Standing, Verdict, is_enforced, standing};
use ursa_crds::{KINDS, Kind, Object, ObjectKey};
use ursa_store::{Change, Store};

use crate::leader::while_leading;
use agenda::{Agenda, Due};

/// A new state of a resource that is in force everywhere within this time was never on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// What was in force and is so again within this time, with the same proxies or others, was so all the time.
const SETTLE: Duration = Duration::from_secs(5);
/// While it is not in force, who lags is told as often as this.
const REFRESH: Duration = Duration::from_secs(2);
/// After the API server did not take it.
const RETRY: Duration = Duration::from_secs(5);
/// A message is for people; what is wrong with a long list need not be told whole.
const MESSAGE: usize = 1024;
const MANAGER: &str = "ursa-cp-programmed";

/// What a resource's status says.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    generation: u64,
    standing: Standing,
    /// Type → since when its status is what it is.
    since: HashMap<String, String>,
    at: Instant,
}

/// Of a control plane that users write to; `own_zone`: of one without global.
#[derive(Clone)]
pub(crate) struct Reporter {
    pub(crate) client: Client,
    pub(crate) store: Store,
    /// Where policies of whole meshes are.
    pub(crate) namespace: String,
    pub(crate) own_zone: Option<String>,
}

impl Reporter {
    /// Tells it from now on, while this replica leads.
    pub(crate) fn start(self, leads: watch::Receiver<bool>) {
        tokio::spawn(async move { while_leading(leads, || self.tell_all()).await });
    }

    /// Until the store ends.
    async fn tell_all(&self) {
        let (_, mut changes) = self.store.watch();
        let mut told: HashMap<ObjectKey, Told> = HashMap::new();
        let now = Instant::now();
        let mut agenda = Agenda::default();
        self.resources(|_| true).for_each(|key| agenda.bring_forward(key, now));
        loop {
            let next = agenda.next();
            tokio::select! {
                changed = changes.next() => {
                    let Some(changed) = changed else { return };
                    let now = Instant::now();
                    for key in self.affected(&changed) {
                        agenda.bring_forward(key, now);
                    }
                }
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    let Some((key, due)) = agenda.take_next() else { continue };
                    if let Some(again) = self.look(&key, due.differs_since, &mut told).await {
                        agenda.set(key, again);
                    }
                }
            }
        }
    }

    /// Every mesh and policy of the meshes that are meant.
    fn resources(&self, meant: impl Fn(&str) -> bool) -> impl Iterator<Item = ObjectKey> {
        let kinds = KINDS.iter().map(|info| info.kind).filter(|kind| is_enforced(*kind));
        let objects = kinds.flat_map(|kind| self.store.list(kind));
        objects.filter(move |object| meant(object.spec.mesh().unwrap_or(&object.meta.name))).map(|o| o.key())
    }

    /// What may stand otherwise after these changes.
    fn affected(&self, changes: &[Change]) -> Vec<ObjectKey> {
        let mut affected = Vec::new();
        for Change { key, .. } in changes {
            match key.kind {
                kind if is_enforced(kind) => affected.push(key.clone()),
                Kind::MeshZone | Kind::MeshZoneInsight | Kind::Secret => {
                    affected.extend(self.resources(|mesh| mesh == key.mesh));
                }
                Kind::Zone | Kind::ZoneInsight => affected.extend(self.resources(|_| true)),
                _ => {}
            }
            // What a mesh declares, its permissions name.
            if key.kind == Kind::Mesh {
                affected.extend(self.resources(|mesh| mesh == key.name));
            }
        }
        affected.sort();
        affected.dedup();
        affected
    }

    /// Tells how a resource stands, if that is due; when to look again.
    async fn look(
        &self,
        key: &ObjectKey,
        differs_since: Option<Instant>,
        told: &mut HashMap<ObjectKey, Told>,
    ) -> Option<Due> {
        let Some(object) = self.store.get(key) else {
            told.remove(key);
            return None;
        };
        let standing = standing(&self.store, self.own_zone.as_deref(), &object)?;
        let now = Instant::now();
        let retry = |what, error: kube::Error| {
            tracing::warn!(%key, %error, what, "cannot tell how it stands; trying again");
            Some(Due { at: now + RETRY, differs_since })
        };
        let before = match told.get(key) {
            Some(before) => Some(before.clone()),
            None => match self.said(&object).await {
                Ok(before) => before,
                Err(error) => return retry("read", error),
            },
        };
        if let Some(before) = &before {
            told.insert(key.clone(), before.clone());
        }
        let since = differs_since.unwrap_or(now);
        match when(before.as_ref(), object.meta.generation, &standing, since, now) {
            When::Never => None,
            When::At(at) if at > now => Some(Due { at, differs_since: Some(since) }),
            When::At(_) => match self.tell(&object, standing, before.as_ref()).await {
                Ok(Some(now_told)) => {
                    told.insert(key.clone(), now_told);
                    None
                }
                // It changed in the meantime: that is news of its own.
                Ok(None) => None,
                Err(error) => retry("write", error),
            },
        }
    }

    fn api(&self, object: &Object) -> Api<DynamicObject> {
        let namespace = &object.meta.namespace;
        let namespace = if namespace.is_empty() { &self.namespace } else { namespace };
        ursa_store::api(&self.client, object.kind(), namespace)
    }

    /// What the status says, whoever led when it was written.
    async fn said(&self, object: &Object) -> kube::Result<Option<Told>> {
        let stored = self.api(object).get_opt(&object.meta.name).await?;
        Ok(stored.and_then(|stored| read(&stored.data["status"])))
    }

    /// Writes it; `None`: the object is not the same any more.
    async fn tell(
        &self,
        object: &Arc<Object>,
        standing: Standing,
        before: Option<&Told>,
    ) -> kube::Result<Option<Told>> {
        let generation = object.meta.generation;
        let now = Timestamp::now().strftime("%FT%TZ").to_string();
        let mut since = HashMap::new();
        let conditions: Vec<Value> = (standing.conditions().into_iter())
            .map(|(name, Verdict { status, reason, message })| {
                let known = before.filter(|before| status_of(before, name) == Some(status));
                let since_when = known.and_then(|before| before.since.get(name)).unwrap_or(&now).clone();
                since.insert(name.to_owned(), since_when.clone());
                let message: String = message.chars().take(MESSAGE).collect();
                json!({
                    "type": name, "status": status, "reason": reason, "message": message,
                    "observedGeneration": generation, "lastTransitionTime": since_when,
                })
            })
            .collect();
        let meta = &object.meta;
        let document = json!({
            "apiVersion": ursa_crds::API_VERSION, "kind": object.kind().info().name,
            "metadata": {"name": meta.name, "uid": meta.uid},
            "status": {"conditions": conditions, "zones": standing.zones},
        });
        let params = PatchParams::apply(MANAGER).force();
        match self.api(object).patch_status(&meta.name, &params, &Patch::Apply(document)).await {
            Ok(_) => Ok(Some(Told { generation, standing, since, at: Instant::now() })),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn status_of(told: &Told, name: &str) -> Option<&'static str> {
    let mut conditions = told.standing.conditions().into_iter();
    conditions.find(|(known, _)| *known == name).map(|(_, verdict)| verdict.status)
}

/// What a status says, as far as it decides whether another is written.
fn read(status: &Value) -> Option<Told> {
    let mut since = HashMap::new();
    let mut generation = 0;
    let mut verdict = |name: &str| {
        let found = status["conditions"].as_array()?.iter().find(|condition| condition["type"] == name)?;
        generation = found["observedGeneration"].as_u64()?;
        since.insert(name.to_owned(), found["lastTransitionTime"].as_str()?.to_owned());
        let status = ["True", "False", "Unknown"].into_iter().find(|known| found["status"] == *known)?;
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        Some(Verdict { status, reason: text("reason").into(), message: text("message") })
    };
    let standing = Standing {
        programmed: verdict("Programmed")?,
        resolved_refs: verdict("ResolvedRefs")?,
        rotated: verdict("Rotated"),
        zones: serde_json::from_value(status["zones"].clone()).unwrap_or_default(),
    };
    Some(Told { generation, standing, since, at: Instant::now() })
}

#[derive(Debug, PartialEq)]
enum When {
    /// It says so already.
    Never,
    At(Instant),
}

/// When to tell it. Pure. `since`: when it was first seen to stand otherwise than it was told.
fn when(before: Option<&Told>, generation: u64, standing: &Standing, since: Instant, now: Instant) -> When {
    let good =
        |standing: &Standing| standing.conditions().iter().all(|(_, verdict)| verdict.status == "True");
    let Some(before) = before else {
        return When::At(if good(standing) { now } else { since + ON_ITS_WAY });
    };
    let words = |standing: &Standing| -> Vec<_> {
        let conditions = standing.conditions().into_iter();
        conditions.map(|(name, verdict)| (name, verdict.status, verdict.reason.clone())).collect()
    };
    let transition = before.generation != generation || words(&before.standing) != words(standing);
    if !transition {
        // While all is well, who comes and goes is no news.
        let told = good(standing) || before.standing == *standing;
        return if told { When::Never } else { When::At(before.at + REFRESH) };
    }
    if good(standing) {
        When::At(now)
    } else if before.generation != generation {
        When::At(since + ON_ITS_WAY)
    } else if good(&before.standing) {
        When::At(since + SETTLE)
    } else {
        When::At(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(status: &'static str, message: &str) -> Standing {
        let verdict =
            |status, message: &str| Verdict { status, reason: "Why".into(), message: message.into() };
        Standing {
            programmed: verdict(status, message),
            resolved_refs: verdict("True", ""),
            rotated: None,
            zones: Vec::new(),
        }
    }

    #[test]
    fn good_news_is_told_at_once_and_bad_news_once_it_stays() {
        let now = Instant::now();
        let told = |generation, standing| Told { generation, standing, since: HashMap::new(), at: now };
        let (good, bad, other) = (standing("True", ""), standing("False", "a"), standing("False", "b"));
        assert_eq!(when(None, 1, &good, now, now), When::At(now));
        assert_eq!(when(None, 1, &bad, now, now), When::At(now + ON_ITS_WAY));
        let was_good = told(1, good.clone());
        assert_eq!(when(Some(&was_good), 1, &standing("True", "more"), now, now), When::Never);
        assert_eq!(when(Some(&was_good), 2, &good, now, now), When::At(now), "another generation");
        assert_eq!(when(Some(&was_good), 2, &bad, now, now), When::At(now + ON_ITS_WAY));
        assert_eq!(when(Some(&was_good), 1, &bad, now, now), When::At(now + SETTLE));
        let was_bad = told(1, bad.clone());
        assert_eq!(when(Some(&was_bad), 1, &good, now, now), When::At(now));
        assert_eq!(when(Some(&was_bad), 1, &bad, now, now), When::Never);
        assert_eq!(when(Some(&was_bad), 1, &other, now, now), When::At(now + REFRESH));
    }
}
