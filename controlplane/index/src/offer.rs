//! Writes what this zone offers into its store, from where it goes to the other zones.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use ursa_crds::Object;
use ursa_store::Store;

const RETRY: Duration = Duration::from_secs(1);

/// Takes offers, one object a mesh, in their last state; a write that changes nothing is none.
pub(crate) fn start(store: Store) -> mpsc::UnboundedSender<Object> {
    let (sender, mut offers) = mpsc::unbounded_channel::<Object>();
    tokio::spawn(async move {
        while let Some(first) = offers.recv().await {
            let mut latest = BTreeMap::from([(first.key(), first)]);
            while let Ok(offer) = offers.try_recv() {
                latest.insert(offer.key(), offer);
            }
            for (key, offer) in latest {
                while let Err(error) = store.put(offer.clone(), None).await {
                    tracing::error!(%key, %error, "cannot store what the zone offers; will try again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    });
    sender
}
