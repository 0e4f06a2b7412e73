//! What changes cost: counts of what is looked at and built, which say the same on every machine.
#![allow(clippy::unwrap_used, reason = "what fails in a set-up fails the test")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use ursa_index::{Authority, Connection, Index, SnapshotReceiver, Work};
use ursa_model::ProxyId;
use ursa_store::Store;

/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_mins(1);
const PROXIES: usize = 400;
const SERVICES: usize = 40;
/// Services that each calls.
const CALLS: usize = 5;
const PORT: u16 = 8080;

fn serves(number: usize) -> usize {
    number % SERVICES
}

fn calls(number: usize) -> BTreeSet<usize> {
    (0..CALLS).map(|call| (number * 7 + call * 3 + 1) % SERVICES).collect()
}

/// The proxies that call a service.
fn callers(service: usize) -> u64 {
    (0..PROXIES).filter(|number| calls(*number).contains(&service)).count() as u64
}

fn dataplane(number: usize) -> String {
    let outbounds: Vec<String> = (calls(number).iter().zip(20_000..))
        .map(|(service, port)| format!("{{port: {port}, tags: {{ursamesh.io/service: s{service}}}}}"))
        .collect();
    format!(
        "apiVersion: ursamesh.io/v1alpha1\nkind: Dataplane\nmetadata: {{name: p{number}}}\nspec:\n  mesh: default\n  networking:\n    \
         address: 10.0.{}.{}\n    inbound: [{{port: {PORT}, servicePort: 80, tags: {{ursamesh.io/service: s{}}}}}]\n    outbound: \
         [{}]\n",
        number / 250,
        number % 250,
        serves(number),
        outbounds.join(", ")
    )
}

fn permission(name: &str, source: &str, destination: &str) -> String {
    format!(
        "apiVersion: ursamesh.io/v1alpha1\nkind: TrafficPermission\nmetadata: {{name: {name}}}\nspec:\n  mesh: default\n  sources: \
         [{{match: {{ursamesh.io/service: {source}}}}}]\n  destinations: [{{match: {{ursamesh.io/service: {destination}}}}}]\n"
    )
}

fn route(balancer: &str) -> String {
    format!(
        "apiVersion: ursamesh.io/v1alpha1\nkind: TrafficRoute\nmetadata: {{name: r}}\nspec:\n  mesh: default\n  sources: [{{match: \
         {{ursamesh.io/service: '*'}}}}]\n  destinations: [{{match: {{ursamesh.io/service: s0}}}}]\n  conf: {{split: [{{weight: 1, \
         destination: {{ursamesh.io/service: s0}}}}], loadBalancer: {{type: {balancer}}}}}\n"
    )
}

/// A zone with its proxies.
struct World {
    store: Store,
    index: Index,
    /// Of the proxies, by number.
    agents: Vec<(Connection, SnapshotReceiver)>,
    /// Of nobody: by it one knows that all is done that was said before.
    last: Connection,
}

impl World {
    async fn start() -> Self {
        let store = Store::memory();
        let index = Index::start(store.clone(), Arc::new(Authority::standalone(store.clone(), "east")));
        let last = index.connect(&ProxyId::new("nowhere", "nobody"));
        let mut world = Self { store, index, agents: Vec::new(), last };
        world
            .put(
                "apiVersion: ursamesh.io/v1alpha1\nkind: Mesh\nmetadata: {name: default}\nspec: {mtls: {enabledBackend: ca-1, backends: \
                 [{name: ca-1, type: Builtin}]}}\n",
            )
            .await;
        world.put(&permission("everybody", "s0", "'*'")).await;
        for number in 0..PROXIES {
            world.put(&dataplane(number)).await;
        }
        for number in 0..PROXIES {
            world.join(number).await;
        }
        world.settle().await;
        world
    }

    async fn put(&self, yaml: &str) {
        let object = ursa_crds::decode(yaml.as_bytes()).unwrap();
        assert_eq!(ursa_policy::validate(&object), [], "{yaml}");
        self.store.put(object, None).await.unwrap();
    }

    /// An agent comes and says that all is ready; returns when it has its configuration.
    async fn join(&mut self, number: usize) {
        let proxy = ProxyId::new("default", &format!("p{number}"));
        let connection = self.index.connect(&proxy);
        connection.unready(BTreeSet::new());
        let mut snapshots = self.index.subscribe(&proxy).await.unwrap();
        let configured =
            snapshots.wait_for(|snapshot| snapshot.as_ref().is_some_and(|s| !s.resources.is_empty()));
        timeout(PATIENCE, configured).await.expect("it is never configured").unwrap();
        self.agents.push((connection, snapshots));
    }

    /// Waits until all is done that follows from what agents have said, and from what is published in part.
    async fn settle(&self) {
        timeout(PATIENCE, self.last.drain()).await.expect("the index does not come to an end");
    }

    /// What a change of an object costs, which is news for this proxy at least.
    async fn cost_of(&mut self, yaml: &str, news_for: usize) -> Work {
        self.settle().await;
        self.agents[news_for].1.mark_unchanged();
        let before = self.index.work();
        self.put(yaml).await;
        timeout(PATIENCE, self.agents[news_for].1.changed()).await.expect("nothing is told").unwrap();
        self.settle().await;
        since(before, self.index.work())
    }
}

fn since(before: Work, after: Work) -> Work {
    Work {
        anew: after.anew - before.anew,
        looked_at: after.looked_at - before.looked_at,
        models: after.models - before.models,
        built: after.built - before.built,
        told: after.told - before.told,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_costs_what_it_touches() {
    let mut world = World::start().await;

    // An instance is not ready any more: its callers get one resource that all share.
    world.settle().await;
    let before = world.index.work();
    world.agents[0].0.unready([PORT].into());
    world.settle().await;
    let cost = since(before, world.index.work());
    let concerned = callers(0);
    assert_eq!(cost, Work { anew: 0, looked_at: concerned, models: 0, built: 1, told: concerned });
    assert!(concerned < PROXIES as u64 / 4);

    // Who may call one service: its instances alone, and of them only the inbounds.
    let instances = (PROXIES / SERVICES) as u64;
    let cost = world.cost_of(&permission("one", "s1", "s3"), 3).await;
    assert_eq!(cost, Work { anew: 0, looked_at: instances, models: 0, built: instances, told: instances });

    // Who may call anybody: all, but no model is worked out as a whole.
    let all = PROXIES as u64;
    let cost = world.cost_of(&permission("everybody", "s2", "'*'"), 5).await;
    assert_eq!(cost, Work { anew: 0, looked_at: all, models: 0, built: all, told: all });

    // A route: who calls what it is for, and of them only those calls. Each has a cluster of the one destination, which all share.
    let caller = (0..PROXIES).find(|number| calls(*number).contains(&0)).unwrap();
    let cost = world.cost_of(&route("Random"), caller).await;
    assert_eq!(cost, Work { anew: 0, looked_at: concerned, models: 0, built: 1, told: concerned });

    // One more instance: itself, and who calls it.
    let number = PROXIES;
    let service = serves(number);
    world.settle().await;
    let before = world.index.work();
    world.put(&dataplane(number)).await;
    world.join(number).await;
    world.settle().await;
    let cost = since(before, world.index.work());
    assert_eq!((cost.anew, cost.told), (0, 1 + callers(service)));
    assert!(cost.looked_at <= 2 + callers(service) * 2 && cost.models <= 2, "{cost:?}");

    // What says the same costs nothing.
    world.settle().await;
    let before = world.index.work();
    world.put(&permission("everybody", "s2", "'*'")).await;
    world.agents[1].0.unready(BTreeSet::new());
    world.settle().await;
    assert_eq!(world.index.work(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_comes_is_looked_at_alone() {
    let world = World::start().await;
    let work = world.index.work();
    let all = PROXIES as u64;
    // Each as it comes, and perhaps once more as its dataplane is said; nobody else's model, whoever comes.
    assert!(work.models <= all * 2, "{work:?}");
    assert!(work.anew < 10, "{work:?}");
    // Of each a listener, a cluster and a secret for its inbound and a listener for each call; of each service a cluster,
    // a secret and endpoints each time that an instance of it comes.
    assert!(work.built <= all * (3 + CALLS as u64) + SERVICES as u64 * 2 + all * 2, "{work:?}");
}
