//! What a proxy refuses is told of what may be behind it, and of nothing else.
#![allow(clippy::unwrap_used, reason = "what fails in a set-up fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use ursa_crds::{Kind, ObjectKey, Spec};
use ursa_envoy::{ResourceKey, ResourceType};
use ursa_index::{Authority, Connection, Index, Rejection, SnapshotReceiver};
use ursa_model::ProxyId;
use ursa_store::Store;

/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_mins(1);

/// A zone with one proxy, whose agent is here.
struct World {
    store: Store,
    index: Index,
    proxy: ProxyId,
    agent: Option<(Connection, SnapshotReceiver)>,
}

fn dataplane(ports: &[u16]) -> String {
    let outbounds: Vec<String> =
        ports.iter().map(|port| format!("{{port: {port}, tags: {{ursamesh.io/service: web}}}}")).collect();
    format!(
        "kind: Dataplane\nmetadata: {{name: web-1}}\nspec:\n  mesh: default\n  networking:\n    address: 10.0.0.1\n    \
         inbound: [{{port: 8080, servicePort: 80, tags: {{ursamesh.io/service: web}}}}]\n    outbound: [{}]\n",
        outbounds.join(", ")
    )
}

fn permission(name: &str, source: &str) -> String {
    format!(
        "kind: TrafficPermission\nmetadata: {{name: {name}}}\nspec:\n  mesh: default\n  sources: [{{match: {{ursamesh.io/service: \
         '{source}'}}}}]\n  destinations: [{{match: {{ursamesh.io/service: '*'}}}}]\n"
    )
}

fn route(name: &str) -> String {
    format!(
        "kind: TrafficRoute\nmetadata: {{name: {name}}}\nspec:\n  mesh: default\n  sources: [{{match: {{ursamesh.io/service: \
         '*'}}}}]\n  destinations: [{{match: {{ursamesh.io/service: '{name}'}}}}]\n  conf: {{split: [{{weight: 1, destination: \
         {{ursamesh.io/service: web}}}}]}}\n"
    )
}

fn outbound(port: u16) -> ResourceKey {
    ResourceKey { resource_type: ResourceType::Listener, name: format!("outbound:127.0.0.1:{port}") }
}

/// By what those are known that may call the proxy's workload.
fn callers() -> ResourceKey {
    ResourceKey { resource_type: ResourceType::Secret, name: "callers:10.0.0.1:8080".into() }
}

impl World {
    async fn start() -> Self {
        let store = Store::memory();
        let index = Index::start(store.clone(), Arc::new(Authority::standalone(store.clone(), "east")));
        let mut world = Self { store, index, proxy: ProxyId::new("default", "web-1"), agent: None };
        world
            .put(
                "kind: Mesh\nmetadata: {name: default}\nspec: {mtls: {enabledBackend: ca-1, backends: [{name: ca-1, type: \
                 Builtin}]}}\n",
            )
            .await;
        world.put(&permission("old", "a")).await;
        world.put(&route("web")).await;
        world.put(&dataplane(&[20000])).await;
        for name in ["old", "web"] {
            world.until(|refuse| refuse.contains_key(name)).await;
        }
        let connection = world.index.connect(&world.proxy);
        world.index.observe(&world.proxy, |insight| insight.connected = true);
        let snapshots = world.index.opened(&world.proxy).await.unwrap();
        world.agent = Some((connection, snapshots));
        world.follow(&outbound(20000)).await;
        world
    }

    async fn put(&self, yaml: &str) {
        let object =
            ursa_crds::decode(format!("apiVersion: ursamesh.io/v1alpha1\n{yaml}").as_bytes()).unwrap();
        assert_eq!(ursa_policy::validate(&object), [], "{yaml}");
        self.store.put(object, None).await.unwrap();
    }

    /// Waits until the proxy is to have this resource, and says that it follows all that it is to have then.
    async fn follow(&mut self, key: &ResourceKey) {
        let (_, snapshots) = self.agent.as_mut().unwrap();
        let has = |snapshot: &Option<Arc<ursa_index::Snapshot>>| {
            snapshot.as_ref().is_some_and(|snapshot| snapshot.resources.get(key).is_some())
        };
        let snapshot =
            timeout(PATIENCE, snapshots.wait_for(has)).await.expect("it never comes").unwrap().clone();
        self.index.acknowledged(&self.proxy, snapshot.as_deref().unwrap());
    }

    /// Of a resource, as the proxy is to have it.
    fn version_of(&self, key: &ResourceKey) -> String {
        let (_, snapshots) = self.agent.as_ref().unwrap();
        let snapshot = snapshots.borrow().clone().unwrap();
        snapshot.resources.get(key).unwrap().version.clone()
    }

    /// The same once this one is to be of another version than it was.
    async fn follow_another_version(&mut self, key: &ResourceKey, before: &str) {
        let (_, snapshots) = self.agent.as_mut().unwrap();
        let changed = snapshots.wait_for(|snapshot| {
            let known = snapshot.as_ref().and_then(|snapshot| snapshot.resources.get(key));
            known.is_some_and(|known| known.version != before)
        });
        timeout(PATIENCE, changed).await.expect("it never changes").unwrap();
        self.follow(key).await;
    }

    fn refuse(&self, key: &ResourceKey) {
        let rejection = Rejection { version: "v".into(), message: "bad".into() };
        self.index.observe(&self.proxy, |insight| drop(insight.rejections.insert(key.clone(), rejection)));
    }

    /// Waits until what the zone says is like this: of each resource by name (roots: `roots`), whether the proxy refuses it.
    async fn until(&self, condition: impl Fn(&BTreeMap<String, bool>) -> bool) -> BTreeMap<String, bool> {
        let (_, mut changes) = self.store.watch();
        let wait = async {
            loop {
                let said = self.said();
                if condition(&said) {
                    return said;
                }
                changes.next().await.unwrap();
            }
        };
        timeout(PATIENCE, wait).await.expect("it is never said")
    }

    fn said(&self) -> BTreeMap<String, bool> {
        let mut names = BTreeMap::new();
        for kind in [Kind::Mesh, Kind::TrafficPermission, Kind::TrafficRoute] {
            names.extend(self.store.list(kind).iter().map(|o| (o.meta.uid.clone(), o.meta.name.clone())));
        }
        let insight = self.store.get(&ObjectKey::in_mesh(Kind::MeshZoneInsight, "default", "east"));
        let Some(Spec::MeshZoneInsight(spec)) = insight.as_deref().map(|object| &object.spec) else {
            return BTreeMap::new();
        };
        let name = |uid: &String| names.get(uid).cloned().unwrap_or_else(|| "roots".into());
        spec.resources.iter().map(|of| (name(&of.uid), !of.rejections.is_empty())).collect()
    }

    /// Who is said to be refused, once there are some, and the proxy follows all else.
    async fn refused(&self) -> BTreeSet<String> {
        let said = self.until(|said| said.values().any(|refused| *refused)).await;
        said.into_iter().filter(|(_, refused)| *refused).map(|(name, _)| name).collect()
    }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[tokio::test]
async fn a_proxy_that_has_come_refuses_what_was_there_and_has_a_say() {
    let world = World::start().await;
    world.refuse(&outbound(20000));
    assert_eq!(world.refused().await, names(&["default", "web"]));
    // What comes later was not refused.
    world.put(&permission("new", "b")).await;
    world.put(&route("later")).await;
    let said = world.until(|said| said.contains_key("new") && said.contains_key("later")).await;
    assert_eq!((said["new"], said["later"], said["web"]), (false, false, true));
}

#[tokio::test]
async fn what_came_without_a_change_of_the_mesh_or_a_policy_is_told_all_the_same() {
    let mut world = World::start().await;
    world.put(&dataplane(&[20000, 20001])).await;
    world.follow(&outbound(20001)).await;
    world.refuse(&outbound(20001));
    assert_eq!(world.refused().await, names(&["default", "web"]));
    world.index.observe(&world.proxy, |insight| insight.rejections.clear());
    world.until(|said| said.values().all(|refused| !refused)).await;
}

#[tokio::test]
async fn a_change_of_a_policy_is_behind_what_came_with_it() {
    let mut world = World::start().await;
    let before = world.version_of(&callers());
    world.put(&permission("new", "b")).await;
    world.follow_another_version(&callers(), &before).await;
    world.refuse(&callers());
    assert_eq!(world.refused().await, names(&["new"]));
}

#[tokio::test]
async fn the_mesh_stands_for_a_policy_that_is_gone() {
    let mut world = World::start().await;
    world.put(&permission("new", "b")).await;
    world.until(|said| said.contains_key("new")).await;
    let before = world.version_of(&callers());
    let gone = ObjectKey::in_mesh(Kind::TrafficPermission, "default", "old");
    world.store.delete(&gone, None).await.unwrap();
    world.follow_another_version(&callers(), &before).await;
    world.refuse(&callers());
    assert_eq!(world.refused().await, names(&["default"]));
}

#[tokio::test]
async fn a_new_stream_tells_anew_what_is_refused() {
    let mut world = World::start().await;
    world.refuse(&outbound(20000));
    assert_eq!(world.refused().await, names(&["default", "web"]));
    world.index.opened(&world.proxy).await.unwrap();
    assert!(world.index.insights().get(&world.proxy).unwrap().rejections.is_empty());
    world.until(|said| said.values().all(|refused| !refused)).await;
    let enforced = |world: &World| {
        let insight = world.store.get(&ObjectKey::in_mesh(Kind::MeshZoneInsight, "default", "east")).unwrap();
        let Spec::MeshZoneInsight(spec) = &insight.spec else { return false };
        spec.resources.iter().all(|of| of.enforced)
    };
    assert!(!enforced(&world), "what it follows it has yet to say");
    world.follow(&outbound(20000)).await;
    let (_, mut changes) = world.store.watch();
    let wait = async {
        while !enforced(&world) {
            changes.next().await.unwrap();
        }
    };
    timeout(PATIENCE, wait).await.expect("it is never enforced");
}
