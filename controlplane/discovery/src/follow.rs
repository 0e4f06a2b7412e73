//! Watches: the cluster as it changes.

use std::collections::HashSet;
use std::fmt::Debug;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use ursa_index::Index;
use ursa_store::Store;

use crate::facts::{self, Name, PodFacts, ServiceFacts, SliceFacts};
use crate::world::{News, World};

/// Facts that wait for the one task that draws conclusions.
const BUFFER: usize = 1024;

/// One object's facts; `None`: it is gone, or of no concern.
#[derive(Debug)]
enum Fact {
    Pod(Name, Option<PodFacts>),
    Service(Name, Option<ServiceFacts>),
    Slice(Name, Option<SliceFacts>),
    /// Everything of one kind has been listed.
    Listed(&'static str),
}

/// Follows the cluster until the process ends. Pods with a sidecar become dataplanes in the store.
pub fn start(client: &Client, store: Store, index: Index) {
    let (sender, facts) = mpsc::channel(BUFFER);
    tokio::spawn(follow(client.clone(), sender.clone(), |name, pod: Option<&Pod>| {
        Fact::Pod(name, pod.and_then(facts::pod))
    }));
    tokio::spawn(follow(client.clone(), sender.clone(), |name, service: Option<&Service>| {
        Fact::Service(name, service.and_then(facts::service))
    }));
    tokio::spawn(follow(client.clone(), sender, |name, slice: Option<&EndpointSlice>| {
        Fact::Slice(name, slice.and_then(facts::slice))
    }));
    tokio::spawn(conclude(facts, store, index));
}

async fn conclude(mut facts: mpsc::Receiver<Fact>, store: Store, index: Index) {
    let mut world = World::default();
    let mut missing = HashSet::from(["pods", "services", "endpointslices"]);
    while let Some(fact) = facts.recv().await {
        let mut next = Some(fact);
        // What has come meanwhile is concluded from together.
        while let Some(fact) = next {
            match fact {
                Fact::Pod(name, facts) => world.pod(name, facts),
                Fact::Service(name, facts) => world.service(name, facts),
                Fact::Slice(name, facts) => world.slice(name, facts),
                Fact::Listed(kind) => {
                    missing.remove(kind);
                }
            }
            next = facts.try_recv().ok();
        }
        if !missing.is_empty() {
            continue;
        }
        let News { dataplanes, addresses } = world.news();
        store.discovered(dataplanes);
        if let Some(addresses) = addresses {
            index.call_at(addresses);
        }
    }
}

async fn follow<K>(client: Client, facts: mpsc::Sender<Fact>, fact: fn(Name, Option<&K>) -> Fact)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let plural: &'static str = match K::kind(&()).as_ref() {
        "Pod" => "pods",
        "Service" => "services",
        _ => "endpointslices",
    };
    let events = watcher(Api::<K>::all(client), watcher::Config::default()).default_backoff();
    let ended = pass_on(events.boxed(), facts, fact, plural).await;
    tracing::debug!(plural, ended = ended.is_none(), "discovery stopped");
}

/// `None` once nobody listens any more.
async fn pass_on<K: Resource>(
    mut events: impl Stream<Item = watcher::Result<Event<K>>> + Unpin,
    facts: mpsc::Sender<Fact>,
    fact: fn(Name, Option<&K>) -> Fact,
    plural: &'static str,
) -> Option<()> {
    let name = |object: &K| Name::new(&object.namespace().unwrap_or_default(), &object.name_any());
    let mut known: HashSet<Name> = HashSet::new();
    // Names that a list has not shown yet.
    let mut unlisted: HashSet<Name> = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => unlisted.clone_from(&known),
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                let name = name(&object);
                unlisted.remove(&name);
                known.insert(name.clone());
                facts.send(fact(name, Some(&object))).await.ok()?;
            }
            Ok(Event::Delete(object)) => {
                let name = name(&object);
                known.remove(&name);
                facts.send(fact(name, None)).await.ok()?;
            }
            Ok(Event::InitDone) => {
                for name in unlisted.drain() {
                    known.remove(&name);
                    facts.send(fact(name, None)).await.ok()?;
                }
                facts.send(Fact::Listed(plural)).await.ok()?;
            }
            Err(error) => tracing::warn!(what = plural, %error, "cannot follow the cluster; trying again"),
        }
    }
    Some(())
}
