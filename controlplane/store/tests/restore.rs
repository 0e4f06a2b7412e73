//! A store that is made the same as another one.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::collections::BTreeMap;

use common::{file, key, permission};
use ursa_crds::{Kind, Object, ObjectKey, decode};
use ursa_store::names::{ADOPTED, INITIALIZED, TOKEN_SIGNING_KEY};
use ursa_store::{Snapshot, Store};

async fn put(store: &Store, yaml: &str) -> Object {
    let object = decode(format!("apiVersion: ursamesh.io/v1alpha1\n{yaml}").as_bytes()).unwrap();
    Object::clone(&store.put(object, None).await.unwrap().object)
}

/// With what global has: users' objects, keys, and facts about itself.
async fn global() -> Store {
    let store = Store::memory();
    put(&store, "kind: Mesh\nmetadata: {name: default}\n").await;
    put(&store, "kind: Zone\nmetadata: {name: east}\n").await;
    put(&store, "kind: Secret\nmetadata: {name: corp}\nspec: {value: hush}\n").await;
    put(&store, "kind: ZoneInsight\nmetadata: {name: east}\nspec: {connected: true}\n").await;
    // The younger one is the first by name, and has changed since.
    for (name, source) in [("b", "web"), ("a", "web"), ("a", "api")] {
        store.put(permission(name, source), None).await.unwrap();
    }
    for name in [TOKEN_SIGNING_KEY, ADOPTED, INITIALIZED] {
        store.private_put(name, name.as_bytes().to_vec()).await.unwrap();
    }
    store
}

fn without_version(objects: Vec<Object>) -> Vec<Object> {
    let plain = |mut object: Object| {
        object.meta.resource_version = 0;
        object
    };
    objects.into_iter().map(plain).collect()
}

#[tokio::test]
async fn a_snapshot_has_what_others_need_and_nothing_of_the_store_itself() {
    let store = global().await;
    let snapshot = store.snapshot().await.unwrap();
    let names: Vec<String> = snapshot.objects.iter().map(|object| object.key().to_string()).collect();
    let expected = [
        "Mesh default",
        "Secret default/corp",
        "Zone east",
        "ZoneInsight east",
        "TrafficPermission default/b",
        "TrafficPermission default/a",
    ];
    assert_eq!(names, expected, "kinds as they can be applied, and of each the older first");
    assert_eq!(snapshot.private, BTreeMap::from([(TOKEN_SIGNING_KEY.into(), TOKEN_SIGNING_KEY.into())]));
    assert!(snapshot.authority.is_empty());
}

#[tokio::test]
async fn a_restored_store_is_the_same_also_after_a_restart() {
    let before = global().await.snapshot().await.unwrap();
    let before = Snapshot::from_value(&before.to_value()).unwrap();
    let (_folder, path) = file();
    let store = Store::open(&path).unwrap();
    let epoch = store.epoch().to_owned();
    let mine = put(&store, "kind: Mesh\nmetadata: {name: default}\nspec: {routing: {}}\n").await;
    put(&store, "kind: Mesh\nmetadata: {name: unwanted}\n").await;
    store.private_put(TOKEN_SIGNING_KEY, b"new".to_vec()).await.unwrap();
    let (_, mut changes) = store.watch();

    let removals = vec![ObjectKey::mesh("unwanted"), ObjectKey::mesh("was-never-there")];
    let further = BTreeMap::from([(ADOPTED.to_owned(), "at noon".to_owned())]);
    store.restore(before.clone(), removals, further).await.unwrap();
    let seen = changes.next().await.unwrap();
    assert_eq!(seen.len(), before.objects.len() + 1, "each once, and what was removed");
    let check = async |store: &Store| {
        let after = store.snapshot().await.unwrap();
        assert_eq!(without_version(after.objects), without_version(before.objects.clone()));
        assert_eq!(after.private, before.private);
        assert_eq!(store.private(ADOPTED).as_deref(), Some(b"at noon".as_slice()));
        assert_eq!(store.epoch(), epoch, "it is another store");
        assert_ne!(store.get(&ObjectKey::mesh("default")).unwrap().meta.uid, mine.meta.uid);
    };
    check(&store).await;
    drop((store, changes));
    let store = Store::open(&path).unwrap();
    check(&store).await;
    // It goes on as any other.
    let generation = store.get(&key("a")).unwrap().meta.generation;
    assert_eq!(generation, 2);
    let written = store.put(permission("a", "db"), None).await.unwrap();
    assert_eq!(written.object.meta.generation, 3);
    assert_eq!(store.list(Kind::TrafficPermission).len(), 2);
}
