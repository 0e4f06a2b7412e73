//! The store as its users see it: versions, conflicts, watches, private values.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::fs::PermissionsExt as _;

use common::{file, key, list, permission};
use ursa_crds::{Kind, ObjectKey};
use ursa_store::{OpenError, Outcome, Store, StoreError};

#[tokio::test]
async fn the_server_sets_its_metadata_and_a_write_that_changes_nothing_is_none() {
    let store = Store::memory();
    let (_, mut watch) = store.watch();
    let mut given = permission("p", "a");
    (given.meta.uid, given.meta.generation, given.meta.resource_version) = ("mine".into(), 7, 9);
    let first = store.put(given, None).await.unwrap();
    assert_eq!(first.outcome, Outcome::Created);
    assert_eq!((first.object.meta.generation, first.object.meta.resource_version), (1, 1));
    assert_ne!(first.object.meta.uid, "mine");

    let again = store.put(permission("p", "a"), None).await.unwrap();
    assert_eq!((again.outcome, store.revision()), (Outcome::Unchanged, 1));

    let mut labelled = permission("p", "a");
    labelled.meta.labels.insert("team".into(), "a".into());
    let labelled = store.put(labelled, None).await.unwrap().object;
    assert_eq!((labelled.meta.generation, labelled.meta.resource_version), (1, 2));

    let changed = store.put(permission("p", "b"), None).await.unwrap().object;
    assert_eq!((changed.meta.generation, changed.meta.resource_version), (2, 3));
    assert_eq!(
        (&changed.meta.uid, changed.meta.created),
        (&first.object.meta.uid, first.object.meta.created)
    );

    store.delete(&key("p"), None).await.unwrap();
    let other = store.put(permission("p", "b"), None).await.unwrap().object;
    assert_ne!(other.meta.uid, first.object.meta.uid);

    let changes = watch.next().await.unwrap();
    let seen: Vec<_> = changes.iter().map(|change| (change.revision, change.object.is_some())).collect();
    assert_eq!(seen, [(1, true), (2, true), (3, true), (4, false), (5, true)]);
}

#[tokio::test]
async fn a_writer_that_expects_another_version_changes_nothing() {
    let store = Store::memory();
    store.put(permission("p", "a"), None).await.unwrap();
    let conflict = store.put(permission("p", "b"), Some(7)).await.unwrap_err();
    assert_eq!(conflict, StoreError::Conflict { key: Box::new(key("p")), expected: 7, actual: 1 });
    assert!(matches!(store.put(permission("p", "b"), Some(0)).await, Err(StoreError::Conflict { .. })));
    assert!(matches!(store.delete(&key("p"), Some(7)).await, Err(StoreError::Conflict { .. })));
    assert!(matches!(
        store.put(permission("q", "b"), Some(1)).await,
        Err(StoreError::Conflict { actual: 0, .. })
    ));
    assert!(matches!(store.delete(&key("q"), Some(1)).await, Err(StoreError::Conflict { .. })));
    assert!(matches!(store.delete(&key("q"), None).await, Err(StoreError::NotFound(_))));
    assert_eq!(store.revision(), 1);
    store.put(permission("p", "b"), Some(1)).await.unwrap();
    assert_eq!(store.put(permission("q", "b"), Some(0)).await.unwrap().outcome, Outcome::Created);
}

#[tokio::test]
async fn a_copy_keeps_what_its_owners_store_set() {
    let owner = Store::memory();
    owner.put(permission("p", "a"), None).await.unwrap();
    let original = owner.put(permission("p", "b"), None).await.unwrap().object;
    let (_folder, path) = file();
    let store = Store::open(&path).unwrap();
    let copy = store.put_copy((*original).clone()).await.unwrap();
    assert_eq!((copy.outcome, copy.object.meta.resource_version), (Outcome::Created, 1));
    assert_eq!(store.put_copy((*original).clone()).await.unwrap().outcome, Outcome::Unchanged);
    drop(store);
    let stored = list(&Store::open(&path).unwrap()).remove(0);
    let meta = ursa_crds::Meta { resource_version: 1, ..original.meta.clone() };
    assert_eq!((&stored.meta, &stored.spec), (&meta, &original.spec));
    assert_eq!(meta.generation, 2);
}

#[tokio::test]
async fn lists_are_ordered_and_keep_meshes_apart() {
    let store = Store::memory();
    for (mesh, name) in [("b", "2"), ("a", "9"), ("b", "1"), ("bb", "0")] {
        let mut object = permission(name, "s");
        let ursa_crds::Spec::TrafficPermission(spec) = &mut object.spec else { panic!("a permission") };
        spec.mesh = mesh.into();
        store.put(object, None).await.unwrap();
    }
    let keys = |objects: Vec<std::sync::Arc<ursa_crds::Object>>| -> Vec<String> {
        objects.iter().map(|object| object.key().to_string()).collect()
    };
    let all = ["a/9", "b/1", "b/2", "bb/0"].map(|name| format!("TrafficPermission {name}"));
    assert_eq!(keys(list(&store)), all);
    assert_eq!(keys(store.list_in_mesh(Kind::TrafficPermission, "b")), all[1..3]);
    assert!(store.list(Kind::Mesh).is_empty());
    assert!(store.get(&ObjectKey::in_mesh(Kind::TrafficPermission, "a", "1")).is_none());
}

#[tokio::test]
async fn each_of_many_writers_at_once_is_acknowledged_and_seen_once_in_order() {
    let (_folder, path) = file();
    let store = Store::open(&path).unwrap();
    let (before, mut watch) = store.watch();
    assert!(before.is_empty());
    let writers: Vec<_> = (0..300)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                store.put(permission(&format!("p{}", number % 100), &number.to_string()), None).await
            })
        })
        .collect();
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.push(writer.await.unwrap().unwrap().object.meta.resource_version);
    }
    acknowledged.sort_unstable();
    assert_eq!(acknowledged, (1..=300).collect::<Vec<_>>());
    let mut seen = Vec::new();
    while seen.len() < 300 {
        seen.extend(watch.next().await.unwrap());
    }
    assert_eq!(seen.iter().map(|change| change.revision).collect::<Vec<_>>(), acknowledged);
    let last: std::collections::BTreeMap<_, _> =
        seen.into_iter().map(|change| (change.key, change.object.unwrap())).collect();
    assert_eq!(list(&store), last.into_values().collect::<Vec<_>>());
    drop(store);
    assert!(watch.next().await.is_none(), "the watch ends with the store");
}

#[tokio::test]
async fn a_write_is_done_though_its_writer_went_away() {
    let store = Store::memory();
    let (_, mut watch) = store.watch();
    let mut put = Box::pin(store.put(permission("p", "a"), None));
    assert!(futures_poll_once(put.as_mut()).await);
    drop(put);
    assert_eq!(watch.next().await.unwrap()[0].key, key("p"));
}

/// Polls a future once, so that it has begun.
async fn futures_poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|context| {
        let _ = future.as_mut().poll(context);
        std::task::Poll::Ready(true)
    })
    .await
}

#[tokio::test]
async fn private_values_are_kept_and_not_replaced_by_accident() {
    let (_folder, path) = file();
    let store = Store::open(&path).unwrap();
    assert_eq!(store.private_get_or_insert("k", b"tiger".to_vec()).await.unwrap(), b"tiger");
    assert_eq!(store.private_get_or_insert("k", b"lion".to_vec()).await.unwrap(), b"tiger");
    store.private_put("k", b"lynx".to_vec()).await.unwrap();
    assert_eq!(store.revision(), 0, "no object changed");
    let shown = format!("{store:?}");
    assert!(!shown.contains("lynx") && !shown.contains("108, 121"), "{shown}");
    let epoch = store.epoch().to_owned();
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!((store.private("k"), store.epoch()), (Some(b"lynx".to_vec()), epoch.as_str()));
    assert_ne!(Store::memory().epoch(), epoch);
}

#[tokio::test]
async fn the_file_is_for_its_owner_only() {
    let (folder, path) = file();
    drop(Store::open(&path).unwrap());
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    drop(Store::open(&path).unwrap());
    assert_eq!(mode(), 0o600);
    let names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["store.redb"], "nothing is left beside it");
}

#[tokio::test]
async fn a_store_that_is_open_is_not_opened_again() {
    let (_folder, path) = file();
    let store = Store::open(&path).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Busy { .. }), "{error}");
    assert!(error.to_string().contains("store.redb: another process has the store open"), "{error}");
    store.put(permission("p", "a"), None).await.unwrap();
    drop(store);
    assert_eq!(list(&Store::open(&path).unwrap()).len(), 1);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let (folder, _) = file();
    let error = Store::open(&folder.path().join("absent/store.redb")).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    assert!(error.to_string().contains("absent/store.redb"), "{error}");
}
