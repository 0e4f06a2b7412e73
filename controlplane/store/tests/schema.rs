//! A file says which schema it is of: an older version refuses it, and leaves it as it is.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::file;
use redb::{Database, TableDefinition};
use ursa_crds::schema::CURRENT;
use ursa_crds::{Kind, Object, ObjectKey, Spec};
use ursa_store::{OpenError, Store};

fn object(yaml: &str) -> Object {
    ursa_crds::decode(format!("apiVersion: ursamesh.io/v1alpha1\n{yaml}").as_bytes()).unwrap()
}

fn mesh() -> Object {
    object("kind: Mesh\nmetadata: {name: default}\nspec: {members: {zones: [east]}}\n")
}

fn has_members(store: &Store) -> bool {
    let mesh = store.get(&ObjectKey::mesh("default")).unwrap();
    matches!(&mesh.spec, Spec::Mesh(mesh) if mesh.members.is_some())
}

#[tokio::test]
async fn an_older_versions_file_holds_what_that_knows_and_is_taken_over() {
    let (_folder, path) = file();
    let old = Store::open_as(&path, 1).unwrap();
    old.put(mesh(), None).await.unwrap();
    old.put(object("kind: MeshZoneInsight\nmetadata: {name: east}\nspec: {mesh: default}\n"), None)
        .await
        .unwrap();
    drop(old);
    let old = Store::open_as(&path, 1).unwrap();
    assert!(!has_members(&old) && old.list(Kind::MeshZoneInsight).is_empty());
    let epoch = old.epoch().to_owned();
    drop(old);
    let new = Store::open(&path).unwrap();
    assert_eq!(new.epoch(), epoch);
    new.put(mesh(), None).await.unwrap();
    drop(new);
    assert!(has_members(&Store::open(&path).unwrap()));
}

#[tokio::test]
async fn a_later_versions_file_is_refused_and_left_as_it_is() {
    let (_folder, path) = file();
    Store::open(&path).unwrap().put(mesh(), None).await.unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = Store::open_as(&path, 1).unwrap_err();
    assert!(matches!(&error, OpenError::Later { found: CURRENT, understood: 1, .. }), "{error:?}");
    let text = error.to_string();
    let version = format!("version {} (schema 2)", env!("CARGO_PKG_VERSION"));
    assert!(text.contains("store.redb") && text.contains(&version) && text.contains("backup"), "{text}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert!(has_members(&Store::open(&path).unwrap()));
}

#[tokio::test]
async fn a_file_that_does_not_say_its_schema_is_of_the_first() {
    let (_folder, path) = file();
    Store::open_as(&path, 1).unwrap().put(mesh(), None).await.unwrap();
    let facts: TableDefinition<'_, &str, &str> = TableDefinition::new("facts");
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    for fact in ["schema", "version"] {
        transaction.open_table(facts).unwrap().remove(fact).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    assert!(!has_members(&Store::open_as(&path, 1).unwrap()));
    drop(Store::open(&path).unwrap());
    assert!(matches!(Store::open_as(&path, 1).unwrap_err(), OpenError::Later { .. }));
}
