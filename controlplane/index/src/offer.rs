//! Writes what this zone offers and observes into its store, from where it goes to global and the other zones.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use ursa_crds::{Kind, Object, ObjectKey};
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

/// Takes offers and stores the last of each object; a write that changes nothing is none.
pub(crate) fn start(store: Store) -> mpsc::UnboundedSender<Offer> {
    let (sender, mut offers) = mpsc::unbounded_channel::<Offer>();
    tokio::spawn(async move {
        while let Some(first) = offers.recv().await {
            let mut latest = BTreeMap::from([(first.key(), first)]);
            while let Ok(offer) = offers.try_recv() {
                latest.insert(offer.key(), offer);
            }
            // Together: the store writes what has come so far in one transaction.
            let stored = latest.iter().map(async |(key, offer)| {
                while let Err(error) = offer.store(&store).await {
                    tracing::error!(%key, %error, "cannot store what the zone observes; will try again");
                    tokio::time::sleep(RETRY).await;
                }
            });
            futures::future::join_all(stored).await;
        }
    });
    sender
}
