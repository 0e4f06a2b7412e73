//! The store on a real API server: the cluster that `KUBECONFIG` names, with Ursa's definitions installed.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams,
};
use kube::runtime::wait::await_condition;
use kube::{Client, Config};
use serde_json::json;
use tokio::time::timeout;
use ursa_crds::schema::CURRENT;
use ursa_crds::{Kind, MeshZone, Object, ObjectKey, Spec, ZoneIngress, decode};
use ursa_store::{Change, KubernetesConfig, KubernetesError, Outcome, Store, StoreError, Watch};

/// A namespace of the test's own, as the system's.
struct World {
    client: Client,
    namespace: String,
}

impl World {
    async fn new(test: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut config = Config::infer().await.expect("KUBECONFIG names a cluster: see `make test`");
        // Ursa's webhook may be installed there, and would refuse what is to be wrong here. It does not judge the cluster's
        // own parts.
        config.auth_info.impersonate = Some("ursa-store-test".into());
        let groups = ["system:masters", "system:serviceaccounts:kube-system"];
        config.auth_info.impersonate_groups = Some(groups.map(str::to_owned).to_vec());
        let client = Client::try_from(config).unwrap();
        let namespace = format!("store-{test}-{}", &uuid::Uuid::new_v4().to_string()[..8]);
        let object = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
        Self { client, namespace }
    }

    async fn open(&self) -> Store {
        self.open_as(CURRENT).await
    }

    /// As a version that knows no more than this schema.
    async fn open_as(&self, schema: u32) -> Store {
        self.try_open_as(schema).await.unwrap()
    }

    async fn try_open_as(&self, schema: u32) -> Result<Store, KubernetesError> {
        let namespace = self.namespace.clone();
        Store::kubernetes(KubernetesConfig { namespace, schema, control_plane: None }).await
    }

    fn permissions(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("ursamesh.io", "v1alpha1", "TrafficPermission");
        let resource = ApiResource::from_gvk_with_plural(&kind, "trafficpermissions");
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    fn offers(&self) -> Api<MeshZone> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn ingresses(&self, namespace: &str) -> Api<ZoneIngress> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn end(self) {
        Api::<Namespace>::all(self.client)
            .delete(&self.namespace, &DeleteParams::background())
            .await
            .unwrap();
    }
}

fn permission(name: &str, service: &str) -> Object {
    decode(
        format!(
            "apiVersion: ursamesh.io/v1alpha1\nkind: TrafficPermission\nmetadata: {{name: {name}, labels: {{a: b}}}}\n\
             spec:\n  sources: [{{match: {{ursamesh.io/service: '*'}}}}]\n  destinations: [{{match: {{ursamesh.io/service: {service}}}}}]\n"
        )
        .as_bytes(),
    )
    .unwrap()
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::in_mesh(Kind::TrafficPermission, "default", name)
}

/// The changes of one object, in their order.
struct Changes {
    watch: Watch,
    key: ObjectKey,
    seen: VecDeque<Change>,
}

impl Changes {
    fn of(store: &Store, key: ObjectKey) -> Self {
        Self { watch: store.watch().1, key, seen: VecDeque::new() }
    }

    /// The object after the next change.
    async fn next(&mut self) -> Option<Arc<Object>> {
        let wait = async {
            while self.seen.is_empty() {
                let changes = self.watch.next().await.expect("the store is open");
                self.seen.extend(changes.into_iter().filter(|change| change.key == self.key));
            }
        };
        timeout(Duration::from_secs(10), wait).await.expect("a change within 10 s");
        self.seen.pop_front().unwrap().object
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_seen_at_once_and_by_everybody_in_one_order() {
    let world = World::new("writes").await;
    let (one, two) = (world.open().await, world.open().await);
    assert_eq!(one.epoch(), two.epoch());
    let mut changes = Changes::of(&two, key("p"));

    let created = one.put(permission("p", "web"), Some(0)).await.unwrap();
    assert_eq!(created.outcome, Outcome::Created);
    let meta = &created.object.meta;
    assert_eq!((meta.generation, meta.namespace.as_str()), (1, ""));
    assert!(!meta.uid.is_empty() && meta.created.is_some());
    assert_eq!(one.get(&key("p")).unwrap(), created.object);
    assert_eq!(changes.next().await.unwrap(), created.object);

    let same = one.put(permission("p", "web"), None).await.unwrap();
    assert_eq!(same.outcome, Outcome::Unchanged);
    let changed = one.put(permission("p", "redis"), Some(meta.resource_version)).await.unwrap();
    assert_eq!((changed.outcome, changed.object.meta.generation), (Outcome::Updated, 2));
    assert_eq!(changed.object.meta.uid, meta.uid);
    assert_eq!(changes.next().await.unwrap(), changed.object);

    let stale = two.put(permission("p", "app"), Some(meta.resource_version)).await.unwrap_err();
    assert!(matches!(stale, StoreError::Conflict { .. }), "{stale}");
    let there = two.put(permission("p", "app"), Some(0)).await.unwrap_err();
    assert!(matches!(there, StoreError::Conflict { .. }), "{there}");

    let deleted = two.delete(&key("p"), Some(changed.object.meta.resource_version)).await.unwrap();
    assert_eq!(deleted, changed.object);
    assert!(two.get(&key("p")).is_none());
    let gone = two.delete(&key("p"), None).await.unwrap_err();
    assert!(matches!(gone, StoreError::NotFound(_)), "{gone}");
    assert!(changes.next().await.is_none());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_is_followed_and_what_others_keep_is_kept() {
    let world = World::new("others").await;
    let store = world.open().await;
    let mut changes = Changes::of(&store, key("p"));
    let api = world.permissions();
    let mut object: DynamicObject = serde_json::from_value(permission("p", "web").to_stored_value()).unwrap();
    object.metadata.finalizers = Some(vec!["example.org/keep".into()]);
    let stored = api.create(&PostParams::default(), &object).await.unwrap();
    let seen = changes.next().await.unwrap();
    assert_eq!(Some(&seen.meta.uid), stored.metadata.uid.as_ref());
    assert_eq!(seen.spec, permission("p", "web").spec);

    // The store's own knowledge is older than this; it finds out.
    store.put(permission("p", "redis"), None).await.unwrap();
    assert_eq!(api.get("p").await.unwrap().metadata.finalizers, object.metadata.finalizers);
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("p", &PatchParams::default(), &none).await.unwrap();
    store.put(permission("p", "app"), None).await.unwrap();

    api.delete("p", &DeleteParams::default()).await.unwrap();
    while changes.next().await.is_some() {}
    assert!(store.get(&key("p")).is_none());
    world.end().await;
}

/// Waits until the condition `Accepted` of permission `p` is about this generation; its status and message.
async fn accepted(world: &World, generation: i64) -> (String, String) {
    let condition = |stored: Option<&DynamicObject>| {
        let conditions = stored?.data["status"]["conditions"].as_array()?;
        let found = conditions.iter().find(|condition| condition["type"] == "Accepted")?;
        (found["observedGeneration"] == generation).then(|| (text(&found["status"]), text(&found["message"])))
    };
    let wait = await_condition(world.permissions(), "p", |stored: Option<&DynamicObject>| {
        condition(stored).is_some()
    });
    let stored = timeout(Duration::from_secs(10), wait).await.expect("the condition is written").unwrap();
    condition(stored.as_ref()).unwrap()
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_an_object_is_accepted_is_in_its_status_and_what_is_wrong_changes_nothing() {
    let world = World::new("status").await;
    let store = world.open().await;
    let mut changes = Changes::of(&store, key("p"));
    let written = store.put(permission("p", "web"), None).await.unwrap().object;
    assert_eq!(changes.next().await.unwrap(), written);
    assert_eq!(accepted(&world, 1).await.0, "True");
    // A status is no change of the object.
    let expected = Some(written.meta.resource_version);
    assert_eq!(store.get(&key("p")).unwrap(), written);

    // What no definition can say, but the rules of permissions.
    let api = world.permissions();
    let sources = Patch::Merge(json!({"spec": {"sources": [{"match": {"ursamesh.io/workload": "web"}}]}}));
    api.patch("p", &PatchParams::default(), &sources).await.unwrap();
    let (status, message) = accepted(&world, 2).await;
    assert!(status == "False" && message.contains("spec.sources[0].match"), "{status} {message}");
    assert_eq!(store.get(&key("p")).unwrap(), written);
    assert!(world.open().await.get(&key("p")).is_none(), "nobody knows a last state of it");

    let mended = store.put(permission("p", "redis"), expected).await.unwrap();
    assert_eq!((mended.outcome, accepted(&world, 3).await.0.as_str()), (Outcome::Updated, "True"));
    // (The store's revision says less: it counts what other tests write on the same cluster, too.)
    assert_eq!(
        changes.next().await.unwrap(),
        mended.object,
        "neither statuses nor what was wrong were changes"
    );
    // Who read it by kubectl may name the version that they saw there.
    let seen = api.get("p").await.unwrap().metadata.resource_version.unwrap().parse().unwrap();
    let wait = async {
        while store.put(permission("p", "app"), Some(seen)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(10), wait).await.expect("its watch sees the status soon");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_goes_to_another_mesh_and_away_whatever_is_in_it() {
    let world = World::new("secrets").await;
    let store = world.open().await;
    let text =
        "apiVersion: ursamesh.io/v1alpha1\nkind: Secret\nmetadata: {name: corp}\nspec: {value: hidden}\n";
    store.put(decode(text.as_bytes()).unwrap(), None).await.unwrap();
    let (here, there) =
        ["default", "other"].map(|mesh| ObjectKey::in_mesh(Kind::Secret, mesh, "corp")).into();
    let (mut from, mut to) = (Changes::of(&store, here.clone()), Changes::of(&store, there.clone()));
    let api: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    let patch = async |patch| api.patch("corp", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    patch(json!({"metadata": {"labels": {"ursamesh.io/mesh": "other"}}})).await;
    assert!(from.next().await.is_none() && to.next().await.is_some());
    assert!(store.get(&here).is_none() && store.get(&there).is_some());
    // Without its value it is none; its last state counts, until it is gone.
    patch(json!({"data": {"value": null}})).await;
    api.delete("corp", &DeleteParams::default()).await.unwrap();
    assert!(to.next().await.is_none());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_replicas_that_write_at_once_one_wins() {
    let world = World::new("replicas").await;
    let (one, two) = (world.open().await, world.open().await);
    let (a, b) = tokio::join!(
        one.private_get_or_insert("ca/default", b"one".to_vec()),
        two.private_get_or_insert("ca/default", b"two".to_vec())
    );
    assert_eq!(a.unwrap(), b.unwrap());
    let (a, b) =
        tokio::join!(one.put(permission("p", "one"), Some(0)), two.put(permission("p", "two"), Some(0)));
    assert_eq!([&a, &b].iter().filter(|written| written.is_ok()).count(), 1, "{a:?} {b:?}");
    // Without expectations both are made, one after the other.
    let (a, b) = tokio::join!(one.put(permission("q", "one"), None), two.put(permission("q", "two"), None));
    let last =
        [a.unwrap(), b.unwrap()].into_iter().max_by_key(|written| written.object.meta.generation).unwrap();
    // Whoever starts later knows it by the same version.
    assert_eq!(world.open().await.get(&key("q")).unwrap(), last.object);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_finds_everything_and_copies_keep_their_owners_metadata() {
    let world = World::new("again").await;
    let store = world.open().await;
    let secret =
        "apiVersion: ursamesh.io/v1alpha1\nkind: Secret\nmetadata: {name: corp}\nspec: {value: hidden}\n";
    let secret = store.put(decode(secret.as_bytes()).unwrap(), None).await.unwrap().object;
    store.private_put("key", b"value".to_vec()).await.unwrap();
    store.private_put("key", b"other".to_vec()).await.unwrap();
    let mut copy = permission("p", "web");
    (copy.meta.uid, copy.meta.generation) = ("of-global".into(), 7);
    copy.meta.created = Some("2026-01-02T03:04:05.000000006Z".parse().unwrap());
    copy.meta.namespace = "team-a".into();
    let copied = store.put_copy(copy.clone()).await.unwrap();
    assert_eq!(store.put_copy(copy.clone()).await.unwrap().outcome, Outcome::Unchanged);
    // A user's own object of that name is another one.
    store.put(permission("p", "own"), None).await.unwrap();
    let insight = "apiVersion: ursamesh.io/v1alpha1\nkind: ZoneInsight\nmetadata: {name: east}\nspec: {connected: true}\n";
    if let Ok(insight) = decode(insight.as_bytes()) {
        store.put(insight, None).await.unwrap();
    }

    let again = world.open().await;
    assert_eq!(again.epoch(), store.epoch());
    assert_eq!(again.get(&secret.key()).unwrap(), secret);
    assert_eq!(again.private("key").unwrap(), b"other");
    let found = again.get(&copy.key()).unwrap();
    assert_eq!(found, copied.object);
    assert_eq!(
        (found.meta.uid.as_str(), found.meta.generation, found.meta.created),
        ("of-global", 7, copy.meta.created)
    );
    assert!(again.list(Kind::ZoneInsight).is_empty(), "what is observed is no resource of the API server");
    again.delete(&copy.key(), None).await.unwrap();
    assert!(again.get(&copy.key()).is_none() && again.get(&key("p")).is_some());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_definition_refuses_changes_nothing_and_is_said() {
    let world = World::new("refused").await;
    let store = world.open().await;
    let mut object = permission("p", "web");
    object.meta.name = "Not A Name".into();
    let error = store.put(object, None).await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused(reason) if reason.contains("metadata.name")), "{error}");
    let mut object = permission("p", "web");
    object.meta.namespace = "not-there".into();
    let error = store.put(object, None).await.unwrap_err().to_string();
    assert!(error.contains("namespaces \"not-there\" not found"), "{error}");
    // The name is another mesh's on this API server.
    store.put(permission("q", "web"), None).await.unwrap();
    let other = decode(
        b"apiVersion: ursamesh.io/v1alpha1\nkind: TrafficPermission\nmetadata: {name: q}\nspec:\n  mesh: other\n  sources: [{match: {ursamesh.io/service: b}}]\n  destinations: [{match: {a: b}}]\n",
    )
    .unwrap();
    let error = store.put(other, None).await.unwrap_err();
    assert!(error.to_string().contains("is taken by TrafficPermission default/q"), "{error}");
    world.end().await;
}

fn ingress(name: &str, spec: &serde_json::Value) -> ZoneIngress {
    let value = json!({"apiVersion": "ursamesh.io/v1alpha1", "kind": "ZoneIngress", "metadata": {"name": name}, "spec": spec});
    serde_json::from_value(value).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ingresses_those_of_zones_are_taken_and_what_was_discovered_stays() {
    let (world, elsewhere) = (World::new("ingresses").await, World::new("elsewhere").await);
    let store = world.open().await;
    let key = |name: &str| ObjectKey::in_mesh(Kind::ZoneIngress, "", name);
    let registered = json!({"zone": "vm", "networking": {"address": "10.0.0.9"}, "advertised": {"address": "203.0.113.7", "port": 443}});
    let params = PostParams::default();
    // The operator's, one that somebody else says is a zone's, and at last one that is.
    let own = ingress("in", &json!({"controlPlaneRef": {"name": "ursa"}}));
    world.ingresses(&world.namespace).create(&params, &own).await.unwrap();
    let foreign = ingress("vm.foreign", &registered);
    elsewhere.ingresses(&elsewhere.namespace).create(&params, &foreign).await.unwrap();
    let mut changes = Changes::of(&store, key("vm.in"));
    world.ingresses(&world.namespace).create(&params, &ingress("vm.in", &registered)).await.unwrap();
    changes.next().await.expect("it is taken");
    let names = || -> Vec<String> {
        store.list(Kind::ZoneIngress).iter().map(|object| object.meta.name.clone()).collect()
    };
    assert_eq!(names(), ["vm.in"]);
    let is_told = |found: Option<&ZoneIngress>| {
        found.and_then(|found| found.status.as_ref()).is_some_and(|status| {
            (status.address.as_deref(), status.port) == (Some("203.0.113.7"), Some(443))
        })
    };
    let told = await_condition(world.ingresses(&world.namespace), "vm.in", is_told);
    timeout(Duration::from_secs(10), told).await.expect("its users see where it is reached").unwrap();

    // What was discovered is not to be overwritten, neither here nor by what others write.
    let found = decode(b"{apiVersion: ursamesh.io/v1alpha1, kind: ZoneIngress, metadata: {name: east.in}, spec: {zone: east, networking: {address: 10.0.0.8}}}").unwrap();
    store.discovered(vec![(key("east.in"), Some(found.clone()))]);
    assert!(store.is_discovered(&key("east.in")) && !store.is_discovered(&key("vm.in")));
    for refused in
        [store.put(found.clone(), None).await.map(drop), store.delete(&key("east.in"), None).await.map(drop)]
    {
        assert!(matches!(&refused, Err(StoreError::Refused(why)) if why.contains("operator")), "{refused:?}");
    }
    let mut changes = Changes::of(&store, key("vm.second"));
    world.ingresses(&world.namespace).create(&params, &ingress("east.in", &registered)).await.unwrap();
    world.ingresses(&world.namespace).create(&params, &ingress("vm.second", &registered)).await.unwrap();
    changes.next().await.expect("what came after it is taken");
    assert_eq!(store.get(&key("east.in")).unwrap().spec, found.spec);
    for name in ["east.in", "vm.second"] {
        world.ingresses(&world.namespace).delete(name, &DeleteParams::default()).await.unwrap();
    }
    assert!(changes.next().await.is_none());
    assert_eq!(store.get(&key("east.in")).unwrap().spec, found.spec, "it goes with what it was found by");
    world.end().await;
    elsewhere.end().await;
}

/// What a zone offers, and who its workloads are, which the first schema does not know.
fn offer(zone: &str, generation: u64) -> Object {
    let yaml = format!(
        "apiVersion: ursamesh.io/v1alpha1\nkind: MeshZone\nmetadata: {{name: {zone}}}\n\
         spec: {{mesh: default, subsets: [s{generation}.ursa], identities: [{{service: web}}]}}\n"
    );
    let mut object = decode(yaml.as_bytes()).unwrap();
    (object.meta.uid, object.meta.generation) = (format!("of-{zone}"), generation);
    object
}

fn without_identities(mut offer: Object) -> Object {
    if let Spec::MeshZone(spec) = &mut offer.spec {
        spec.identities = None;
    }
    offer
}

/// Which of the offers on the API server say who the workloads are, by the names there.
async fn with_identities(world: &World) -> Vec<bool> {
    let all = world.offers().list(&ListParams::default()).await.unwrap();
    all.items.iter().map(|offer| offer.spec.identities.is_some()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_versions_write_the_same_copies_and_offers_each_in_the_form_that_it_knows() {
    let world = World::new("versions").await;
    let new = world.open().await;
    let copy = new.put_copy(offer("west", 1)).await.unwrap().object;
    let own = new.put(offer("east", 1), None).await.unwrap().object;

    // One of the version before takes both, starts on them again, and leaves them as they are while it would say the same.
    let old = world.open_as(CURRENT - 1).await;
    for written in [&copy, &own] {
        let taken = old.get(&written.key()).unwrap();
        assert_eq!(taken.spec, without_identities(Object::clone(written)).spec);
        assert_eq!((&taken.meta.uid, taken.meta.generation), (&written.meta.uid, written.meta.generation));
    }
    assert_eq!(old.put_copy(without_identities(offer("west", 1))).await.unwrap().outcome, Outcome::Unchanged);
    assert_eq!(old.put(offer("east", 1), None).await.unwrap().outcome, Outcome::Unchanged);
    assert_eq!(with_identities(&world).await, [true, true]);

    // What is news it writes, and the newer one sees that something is missing.
    for key in [copy.key(), own.key()] {
        let mut seen = Changes::of(&new, key.clone());
        let written = if key.name == "west" {
            old.put_copy(without_identities(offer("west", 2))).await
        } else {
            old.put(offer("east", 2), None).await
        };
        assert_eq!(written.unwrap().outcome, Outcome::Updated);
        let seen = seen.next().await.unwrap();
        assert_eq!(seen.spec, without_identities(offer(&key.name, 2)).spec);
    }
    assert_eq!(with_identities(&world).await, [false, false]);

    // So it writes the rest again, and to the older one that is no change.
    let before = old.get(&copy.key()).unwrap();
    let mut seen = Changes::of(&old, own.key());
    assert_eq!(new.put_copy(offer("west", 2)).await.unwrap().outcome, Outcome::Updated);
    assert_eq!(new.put(offer("east", 2), None).await.unwrap().outcome, Outcome::Updated);
    assert_eq!(with_identities(&world).await, [true, true]);
    // Of its own the API server counts another generation.
    assert!(seen.next().await.is_some());
    assert_eq!(old.get(&copy.key()).unwrap(), before);
    assert_eq!(world.open_as(CURRENT - 1).await.get(&copy.key()).unwrap(), before);
    assert_eq!(new.put_copy(offer("west", 2)).await.unwrap().outcome, Outcome::Unchanged);

    // But on what users wrote of later definitions it does not start: it would count as not there. The older one that runs
    // already goes on, with the last state.
    let name = world.namespace.clone();
    let mesh = |spec: &str| {
        let yaml = format!(
            "apiVersion: ursamesh.io/v1alpha1\nkind: Mesh\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
        );
        decode(yaml.as_bytes()).unwrap()
    };
    let key = ObjectKey::mesh(&name);
    let mut seen = Changes::of(&old, key.clone());
    new.put(mesh(""), None).await.unwrap();
    let known = seen.next().await;
    new.put(mesh("identityTags: [{key: team}]"), None).await.unwrap();
    let refused = world.try_open_as(CURRENT - 1).await.err().unwrap().to_string();
    assert!(refused.contains(&format!("Mesh {name} has spec.identityTags")), "{refused}");
    assert_eq!(old.get(&key), known);
    new.put(mesh(""), None).await.unwrap();
    world.open_as(CURRENT - 1).await;
    new.delete(&key, None).await.unwrap();
    world.end().await;
}
