//! Writes what this zone offers and observes into its store, from where it goes to global and the other zones.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use ursa_crds::{Kind, Object, ObjectKey, Owner};
use ursa_store::{Store, StoreError};

const RETRY: Duration = Duration::from_secs(1);

/// What a zone says of itself.
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
/// written by the one that leads.
pub(crate) fn start(store: Store, mut leads: watch::Receiver<bool>) -> mpsc::UnboundedSender<Offer> {
    let (sender, mut offers) = mpsc::unbounded_channel::<Offer>();
    tokio::spawn(async move {
        // What waits until this replica leads.
        let mut shared: BTreeMap<ObjectKey, Offer> = BTreeMap::new();
        loop {
            tokio::select! {
                first = offers.recv() => {
                    let Some(first) = first else { return };
                    shared.insert(first.key(), first);
                }
                Ok(()) = leads.changed() => {}
            }
            while let Ok(offer) = offers.try_recv() {
                shared.insert(offer.key(), offer);
            }
            let leading = *leads.borrow_and_update();
            let is_due = |key: &ObjectKey| leading || key.kind.info().owner == Owner::ZoneObserved;
            let (due, rest) = std::mem::take(&mut shared).into_iter().partition(|(key, _)| is_due(key));
            shared = rest;
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
