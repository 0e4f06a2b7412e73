//! The cluster's namespaces, as the API server tells of them.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What is known of the namespaces.
#[derive(Clone)]
pub(crate) struct Namespaces {
    store: Store<Namespace>,
    /// Counts what the API server told.
    news: watch::Receiver<u64>,
}

impl Namespaces {
    /// Follows the API server from now on, and tells when all namespaces are known.
    pub(crate) fn follow(client: Client, synced: watch::Sender<bool>, tasks: &mut JoinSet<()>) -> Self {
        let (store, writer) = reflector::store();
        let (count, news) = watch::channel(0);
        let namespaces = Self { store: store.clone(), news };
        tasks.spawn(async move {
            let events = watcher(Api::all(client), watcher::Config::default())
                .default_backoff()
                .modify(|namespace: &mut Namespace| namespace.metadata.managed_fields = None)
                .reflect(writer);
            let told = events.for_each(|event| {
                if let Err(error) = event {
                    tracing::warn!(%error, "cannot follow the namespaces; going on");
                }
                count.send_modify(|count| *count += 1);
                std::future::ready(())
            });
            let all = async {
                // The writer lives as long as this task.
                if store.wait_until_ready().await.is_ok() {
                    tracing::info!(namespaces = store.len(), "all namespaces are known");
                    synced.send_replace(true);
                }
            };
            tokio::join!(told, all);
        });
        namespaces
    }

    /// The namespace, as soon as it is known and enough is known of it; at the bound, what is known of it then.
    pub(crate) async fn get(
        &self,
        name: &str,
        enough: impl Fn(&Namespace) -> bool,
        bound: Duration,
    ) -> Option<Arc<Namespace>> {
        let key = ObjectRef::new(name);
        let mut news = self.news.clone();
        let seen = async {
            loop {
                news.borrow_and_update();
                if let Some(namespace) = self.store.get(&key)
                    && enough(&namespace)
                {
                    return Some(namespace);
                }
                news.changed().await.ok()?;
            }
        };
        match tokio::time::timeout(bound, seen).await {
            Ok(Some(namespace)) => Some(namespace),
            Ok(None) | Err(_) => self.store.get(&key),
        }
    }
}
