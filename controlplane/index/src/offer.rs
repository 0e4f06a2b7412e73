//! Writes what this zone offers and observes into its store, from where it goes to global and the other zones.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use ursa_crds::{Kind, Object, ObjectKey, Owner};
use ursa_store::{Store, StoreError};

const RETRY: Duration = Duration::from_secs(1);

/// What a zone says of itself.
#[derive(Clone)]
pub(crate) enum Offer {
    /// This.
    Offered(Box<Object>),
    /// Nothing any more: what it was about is gone.
    Withdrawn(ObjectKey),
}

impl Offer {
    /// That the zone is no longer in the mesh.
    pub(crate) fn withdrawn(mesh: &str, zone: &str) -> Self {
        Self::Withdrawn(ObjectKey::in_mesh(Kind::MeshZone, mesh, zone))
    }

    fn key(&self) -> ObjectKey {
        match self {
            Self::Offered(object) => object.key(),
            Self::Withdrawn(key) => key.clone(),
        }
    }

    async fn store(&self, store: &Store) -> Result<(), StoreError> {
        match self {
            Self::Offered(object) => store.put(object.as_ref().clone(), None).await.map(drop),
            Self::Withdrawn(key) => match store.delete(key, None).await {
                Ok(_) | Err(StoreError::NotFound(_)) => Ok(()),
                Err(error) => Err(error),
            },
        }
    }
}

/// Takes offers and stores the last of each object; a write that changes nothing is none. What all replicas share is
/// written by the one that leads, with each lead all of it: another that led meanwhile may know less, as one of the version
/// before does, and have written what it knows.
pub(crate) fn start(store: Store, mut leads: watch::Receiver<bool>) -> mpsc::UnboundedSender<Offer> {
    let (sender, mut offers) = mpsc::unbounded_channel::<Offer>();
    tokio::spawn(async move {
        // The last of each, and whether it waits until this replica leads.
        let mut shared: BTreeMap<ObjectKey, (Offer, bool)> = BTreeMap::new();
        loop {
            let mut due = BTreeMap::new();
            tokio::select! {
                first = offers.recv() => {
                    let Some(first) = first else { return };
                    due.insert(first.key(), first);
                }
                Ok(()) = leads.changed() => shared.values_mut().for_each(|(_, waits)| *waits = true),
            }
            while let Ok(offer) = offers.try_recv() {
                due.insert(offer.key(), offer);
            }
            let is_shared = |key: &ObjectKey| key.kind.info().owner != Owner::ZoneObserved;
            shared
                .extend(due.extract_if(.., |key, _| is_shared(key)).map(|(key, offer)| (key, (offer, true))));
            if *leads.borrow_and_update() {
                for (key, (offer, waits)) in &mut shared {
                    if std::mem::take(waits) {
                        due.insert(key.clone(), offer.clone());
                    }
                }
                shared.retain(|_, (offer, _)| matches!(offer, Offer::Offered(_)));
            }
            store_all(&store, due).await;
        }
    });
    sender
}

/// Together: the store writes what has come so far in one transaction.
async fn store_all(store: &Store, latest: BTreeMap<ObjectKey, Offer>) {
    let stored = latest.iter().map(async |(key, offer)| {
        while let Err(error) = offer.store(store).await {
            tracing::error!(%key, %error, "cannot store what the zone observes; will try again");
            tokio::time::sleep(RETRY).await;
        }
    });
    futures::future::join_all(stored).await;
}

#[cfg(test)]
mod tests {
    use ursa_crds::{MeshZoneSpec, Meta, Spec};

    use super::*;

    /// How long what must happen may take.
    const SOON: Duration = Duration::from_secs(10);

    fn offered(mesh: &str, identities: bool) -> Object {
        let identities = identities.then(Vec::new);
        let spec = MeshZoneSpec { mesh: mesh.into(), identities, ..MeshZoneSpec::default() };
        Object { meta: Meta { name: "east".into(), ..Meta::default() }, spec: Spec::MeshZone(spec) }
    }

    async fn until(store: &Store, wanted: &Object) {
        let (_, mut changes) = store.watch();
        let is_there = || store.get(&wanted.key()).is_some_and(|found| found.spec == wanted.spec);
        let wait = async { while !is_there() && changes.next().await.is_some() {} };
        tokio::time::timeout(SOON, wait).await.expect("it is said soon");
        assert!(is_there());
    }

    #[tokio::test]
    async fn what_another_replica_wrote_while_it_led_is_said_anew() {
        let store = Store::memory();
        let leads = watch::Sender::new(true);
        let offers = start(store.clone(), leads.subscribe());
        let (full, less, other) = (offered("m", true), offered("m", false), offered("n", true));
        offers.send(Offer::Offered(Box::new(full.clone()))).ok().unwrap();
        until(&store, &full).await;

        leads.send_replace(false);
        store.put(less.clone(), None).await.unwrap();
        offers.send(Offer::Offered(Box::new(other.clone()))).ok().unwrap();
        tokio::task::yield_now().await;
        assert!(store.get(&less.key()).unwrap().spec == less.spec && store.get(&other.key()).is_none());

        leads.send_replace(true);
        until(&store, &other).await;
        until(&store, &full).await;
    }
}
