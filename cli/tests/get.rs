//! `get` and `delete` against the real API.
#![allow(clippy::unwrap_used, reason = "a failed set-up fails the test")]

mod common;

use std::collections::BTreeSet;

use common::{World, permission};
use serde_json::Value;
use ursa_crds::{KINDS, Kind};

#[tokio::test]
async fn every_kind_is_shown_by_each_of_its_words() {
    let world = World::start().await;
    for info in KINDS {
        let words = [info.name, info.plural, info.singular];
        for word in words.iter().chain(info.short_names) {
            let ran = world.run(&["get", word]).await;
            assert_eq!(
                ran.err.contains("inspect dataplanes"),
                info.kind == Kind::Dataplane,
                "{word}: {ran:?}"
            );
            let table = ran.out;
            let titles = table.lines().next().unwrap();
            assert!(titles.starts_with("NAME ") && titles.ends_with(" AGE"), "{word}: {table}");
        }
    }
    let error = world.run(&["get", "pods"]).await.failed(2);
    assert!(error.contains("\"pods\"") && error.contains("trafficroute (tr)"), "{error}");
}

#[tokio::test]
async fn a_table_for_people_and_the_resource_for_programs() {
    let world = World::start().await;
    world.pipe(&["apply", "-f", "-"], &permission("redis")).await.ok();
    let table = world.run(&["get", "tp", "redis"]).await.ok();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "ACTION", "SOURCES", "DESTINATIONS", "PROGRAMMED", "AGE"]);
    // No zone says anything here.
    assert_eq!(rows[1][..6], ["redis", "Allow", "*", "*", "False", "(Pending)"]);
    assert!(rows[1][6].ends_with('s') && rows.len() == 2, "{table}");

    let key = ursa_crds::ObjectKey::in_mesh(Kind::TrafficPermission, "default", "redis");
    let stored = world.store.get(&key).unwrap().to_value();
    let json = world.run(&["get", "tp", "redis", "-o", "json"]).await.ok();
    let mut shown: Value = serde_json::from_str(&json).unwrap();
    let status = shown["status"].take();
    assert_eq!(status["conditions"][0]["type"], "Programmed", "{status}");
    let mut stored = stored;
    stored["status"] = Value::Null;
    assert_eq!(shown, stored);
    stored["status"] = status;
    let yaml = world.run(&["get", "tp", "redis", "-o", "yaml"]).await.ok();
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), stored);
    let list = world.run(&["get", "tp", "-o", "json"]).await.ok();
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!((&list["kind"], &list["items"]), (&"List".into(), &serde_json::json!([stored])));

    let all = world.run(&["get", "all"]).await.ok();
    assert!(all.contains("\nmesh/default ") && all.contains("\ntrafficpermission/redis "), "{all}");
    assert!(!all.contains("dataplane"), "kinds without resources are left out: {all}");
}

#[tokio::test]
async fn lists_are_read_to_their_last_page() {
    let world = World::start().await;
    let names: BTreeSet<String> = (0..1_001).map(|number| format!("p{number}")).collect();
    for name in &names {
        let object = ursa_crds::decode(permission(name).as_bytes()).unwrap();
        world.store.put(object, None).await.unwrap();
    }
    let table = world.run(&["get", "tp"]).await.ok();
    let shown: Vec<&str> =
        table.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(shown.len(), names.len(), "none is shown twice");
    assert!(shown.iter().all(|name| names.contains(*name)));
}

#[tokio::test]
async fn what_is_not_there_is_a_failure_that_names_it() {
    let world = World::start().await;
    let error = world.run(&["get", "tr", "redis"]).await.failed(1);
    assert_eq!(error, "error: TrafficRoute default/redis does not exist (404)\n");
    let error = world.run(&["get", "tr", "-m", "nowhere"]).await.failed(1);
    assert_eq!(error, "error: mesh nowhere does not exist (404)\n");
    let ran = world.run(&["get", "all", "-m", "nowhere"]).await;
    assert!(ran.out.contains("mesh/default"), "{ran:?}");
    assert_eq!(ran.failed(1), "error: mesh nowhere does not exist (404)\n");
}

#[tokio::test]
async fn delete_takes_one_resource_away() {
    let world = World::start().await;
    world.pipe(&["apply", "-f", "-"], &format!("{}---\n{}", permission("a"), permission("b"))).await.ok();
    assert_eq!(world.run(&["delete", "tp", "a"]).await.ok(), "trafficpermission/a deleted\n");
    assert!(!world.has("a") && world.has("b"));
    assert!(world.run(&["delete", "tp", "a"]).await.failed(1).contains("default/a does not exist"));
    let error = world.run(&["delete", "mesh", "default"]).await.failed(1);
    assert!(error.contains("still holds 1 trafficpermissions") && error.contains("(409)"), "{error}");
}

#[tokio::test]
async fn a_name_is_one_segment_of_the_path_whatever_it_holds() {
    let world = World::start().await;
    world.pipe(&["apply", "-f", "-"], &permission("a")).await.ok();
    for name in ["..", ".", ""] {
        world.run(&["delete", "tp", name]).await.failed(2);
        world.run(&["get", "tp", "a", "-m", name]).await.failed(2);
    }
    for name in ["../trafficpermissions/a", "a/", "a?x", "a#x", "%61", "x/../a"] {
        let error = world.run(&["delete", "tp", name]).await.failed(1);
        assert!(error.contains("does not exist"), "{name}: {error}");
    }
    assert!(world.has("a"));
}
