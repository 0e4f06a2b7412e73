//! The cluster's meshes, as the API server tells of them: what they declare decides what permissions may say.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use ursa_crds::{GROUP, Kind, Object, VERSION, decode_value};

use crate::validate::document;

/// What is known of the meshes. They are read one by one, so that one that cannot be read does not hide the others.
#[derive(Clone)]
pub(crate) struct Meshes {
    store: Store<DynamicObject>,
    resource: ApiResource,
    /// Counts what the API server told.
    news: watch::Receiver<u64>,
    /// Whether all are known.
    synced: watch::Receiver<bool>,
}

/// What is known of one mesh.
pub(crate) enum Seen {
    Mesh(Arc<Object>),
    /// There is no such mesh, or none that can be read.
    None,
    /// The API server has not told yet which there are.
    Unknown,
}

impl Meshes {
    /// Follows the API server from now on.
    pub(crate) fn follow(client: Client, tasks: &mut JoinSet<()>) -> Self {
        let info = Kind::Mesh.info();
        let kind = GroupVersionKind::gvk(GROUP, VERSION, info.name);
        let resource = ApiResource::from_gvk_with_plural(&kind, info.plural);
        let writer = reflector::store::Writer::new(resource.clone());
        let store = writer.as_reader();
        let (count, news) = watch::channel(0);
        let (all, synced) = watch::channel(false);
        let meshes = Self { store: store.clone(), resource: resource.clone(), news, synced };
        tasks.spawn(async move {
            let events = watcher(Api::all_with(client, &resource), watcher::Config::default())
                .default_backoff()
                .modify(|mesh: &mut DynamicObject| mesh.metadata.managed_fields = None)
                .reflect(writer);
            let told = events.for_each(|event| {
                if let Err(error) = event {
                    tracing::warn!(%error, "cannot follow the meshes; going on");
                }
                count.send_modify(|count| *count += 1);
                std::future::ready(())
            });
            let ready = async {
                // The writer lives as long as this task.
                if store.wait_until_ready().await.is_ok() {
                    tracing::info!(meshes = store.len(), "all meshes are known");
                    all.send_replace(true);
                    count.send_modify(|count| *count += 1);
                }
            };
            tokio::join!(told, ready);
        });
        meshes
    }

    /// The mesh, as soon as enough is known of it; at the bound, what is known then.
    pub(crate) async fn get(
        &self,
        name: &str,
        enough: impl Fn(&Arc<Object>) -> bool,
        bound: Duration,
    ) -> Seen {
        let mut news = self.news.clone();
        let seen = async {
            loop {
                news.borrow_and_update();
                if let Some(mesh) = self.read(name).filter(|mesh| enough(mesh)) {
                    return Some(mesh);
                }
                news.changed().await.ok()?;
            }
        };
        match tokio::time::timeout(bound, seen).await.ok().flatten().or_else(|| self.read(name)) {
            Some(mesh) => Seen::Mesh(mesh),
            None if *self.synced.borrow() => Seen::None,
            None => Seen::Unknown,
        }
    }

    fn read(&self, name: &str) -> Option<Arc<Object>> {
        let stored = self.store.get(&ObjectRef::new_with(name, self.resource.clone()))?;
        let mut value = json!(*stored);
        // Lists of the API server leave out what is the same for all.
        value["apiVersion"] = json!(ursa_crds::API_VERSION);
        value["kind"] = json!(Kind::Mesh.info().name);
        match decode_value(&document(&value)) {
            Ok(mesh) => Some(Arc::new(mesh)),
            Err(problem) => {
                tracing::warn!(mesh = name, %problem, "a mesh cannot be read");
                None
            }
        }
    }
}

#[cfg(test)]
impl Meshes {
    /// As if the API server had told of these, and told no more.
    pub(crate) fn of(meshes: &[serde_json::Value]) -> Self {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, Kind::Mesh.info().name));
        let mut writer = reflector::store::Writer::new(resource.clone());
        for mesh in meshes {
            let mesh = serde_json::from_value(mesh.clone()).unwrap();
            writer.apply_watcher_event(&watcher::Event::Apply(mesh));
        }
        let (_, news) = watch::channel(0);
        let (_, synced) = watch::channel(true);
        Self { store: writer.as_reader(), resource, news, synced }
    }
}
