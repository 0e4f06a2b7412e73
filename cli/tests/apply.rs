//! `apply` and `delete -f` against the real API.
#![allow(clippy::unwrap_used, reason = "a failed set-up fails the test")]

mod common;

use common::{MESH, World, permission};
use serde_json::Value;
use ursa_crds::{Kind, ObjectKey};

#[tokio::test]
async fn it_says_what_each_write_did() {
    let world = World::start().await;
    let file = world.file("p.yaml", &permission("redis"));
    let apply = ["apply", "-f", &file];
    assert_eq!(world.run(&apply).await.ok(), "trafficpermission/redis created\n");
    assert_eq!(world.run(&apply).await.ok(), "trafficpermission/redis unchanged\n");
    world.file("p.yaml", &permission("redis").replace("spec:", "spec:\n  action: Deny"));
    assert_eq!(world.run(&apply).await.ok(), "trafficpermission/redis updated\n");
    assert_eq!(world.run(&apply).await.ok(), "trafficpermission/redis unchanged\n");
}

#[tokio::test]
async fn files_folders_and_the_standard_input_go_in_the_order_of_the_kinds() {
    let world = World::start().await;
    let in_new = permission("b").replace("spec:", "spec:\n  mesh: new");
    world.file("dir/2.yaml", &MESH.replace("default", "new"));
    world.file("dir/1.yml", &format!("{in_new}---\n{}", permission("a")));
    world.file("dir/3.json", &ursa_crds::decode(permission("c").as_bytes()).unwrap().to_value().to_string());
    world.file("dir/4.txt", "not: [yaml");
    let extra =
        world.file("extra.yaml", "apiVersion: ursamesh.io/v1alpha1\nkind: Zone\nmetadata: {name: z}\n");
    let dir = world.path("dir");
    let arguments = ["apply", "-f", dir.to_str().unwrap(), "-f", &extra, "-f", "-"];
    let said = world.pipe(&arguments, &permission("d")).await.ok();
    let names = ["mesh/new", "zone/z", "b", "a", "c", "d"]
        .map(|name| if name.contains('/') { name.to_owned() } else { format!("trafficpermission/{name}") });
    assert_eq!(said.lines().collect::<Vec<_>>(), names.map(|name| format!("{name} created")));
    assert!(world.store.get(&ObjectKey::in_mesh(Kind::TrafficPermission, "new", "b")).is_some());

    // What was applied is deleted, the mesh last.
    let arguments = ["delete", "-f", dir.to_str().unwrap(), "-f", &extra];
    let said = world.run(&arguments).await.ok();
    assert_eq!(said.lines().last(), Some("mesh/new deleted"), "{said}");
    assert_eq!(world.store.list(Kind::TrafficPermission).len(), 1, "that of the standard input");
    let missing = world.run(&arguments).await.failed(1);
    assert_eq!(missing.lines().count(), 5, "each is tried: {missing}");
}

#[tokio::test]
async fn one_bad_document_keeps_everything_from_being_sent() {
    let world = World::start().await;
    let good = world.file("good.yaml", &permission("good"));
    let before = world.store.revision();
    for (bad, field) in [
        (permission("bad").replace("spec:", "spec:\n  sauces: []"), "document 2: spec.sauces: unknown field"),
        (permission("bad").replace("'*'", "'a b'"), "document 2: spec.sources[0].match: "),
        (permission("Bad_"), "document 2: metadata.name: "),
        ("kind: Pod\napiVersion: v1\n".to_owned(), "document 2: apiVersion: "),
    ] {
        let bad = world.file("bad.yaml", &format!("{}---\n{bad}", permission("other")));
        let error = world.run(&["apply", "-f", &good, "-f", &bad]).await.failed(1);
        assert!(error.starts_with(&format!("error: {bad}, {field}")), "{error}");
    }
    let empty = world.file("empty.yaml", "# nothing\n---\n");
    assert!(world.run(&["apply", "-f", &empty]).await.failed(1).contains("no resource"));
    assert!(world.run(&["apply", "-f", "missing.yaml"]).await.failed(1).contains("missing.yaml"));
    assert_eq!(world.store.revision(), before);
}

#[tokio::test]
async fn what_the_control_plane_refuses_does_not_hold_up_the_rest() {
    let world = World::start().await;
    let nowhere = permission("a").replace("spec:", "spec:\n  mesh: nowhere");
    let stale = permission("b").replace("{name: b}", "{name: b, resourceVersion: '77'}");
    let file = world.file("p.yaml", &format!("{nowhere}---\n{stale}---\n{}", permission("c")));
    let ran = world.run(&["apply", "-f", &file]).await;
    assert_eq!(ran.out, "trafficpermission/c created\n");
    let error = ran.failed(1);
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 2, "{error}");
    assert_eq!(
        lines[0],
        format!("error: trafficpermission/a ({file}, document 1): mesh nowhere does not exist (404)")
    );
    assert!(lines[1].contains("trafficpermission/b") && lines[1].ends_with("(409)"), "{error}");
}

#[tokio::test]
async fn a_dry_run_validates_and_sends_nothing() {
    let world = World::start().await;
    let before = world.store.revision();
    let file = world.file("p.yaml", &permission("a"));
    // Neither a control plane nor a token is named.
    let dry = ["apply", "--dry-run", "-f", &file];
    assert_eq!(world.run_with(&dry, &[], "").await.ok(), "trafficpermission/a valid\n");
    assert_eq!(world.run(&dry).await.ok(), "trafficpermission/a valid\n");
    world.file("p.yaml", &permission("a").replace("'*'", "''"));
    assert!(world.run_with(&dry, &[], "").await.failed(1).contains("document 1: spec.sources[0].match"));
    assert_eq!(world.store.revision(), before);
}

#[tokio::test]
async fn the_mesh_that_is_named_is_filled_in_and_not_contradicted() {
    let world = World::start().await;
    world.pipe(&["apply", "-f", "-"], &MESH.replace("default", "m")).await.ok();
    world.pipe(&["apply", "-m", "m", "-f", "-"], &permission("a")).await.ok();
    assert!(world.store.get(&ObjectKey::in_mesh(Kind::TrafficPermission, "m", "a")).is_some());
    let other = permission("b").replace("spec:", "spec:\n  mesh: default");
    let error = world.pipe(&["apply", "-m", "m", "-f", "-"], &other).await.failed(1);
    assert!(error.contains("standard input, document 1: spec.mesh: "), "{error}");
}

#[tokio::test]
async fn what_get_prints_can_be_applied_again() {
    let world = World::start().await;
    let applied = world.pipe(&["apply", "-o", "json", "-f", "-"], &permission("a")).await.ok();
    let applied: Value = serde_json::from_str(&applied).unwrap();
    assert_eq!(applied["items"][0]["metadata"]["generation"], 1);
    for output in ["yaml", "json"] {
        let printed = world.run(&["get", "all", "-o", output]).await.ok();
        let said = world.pipe(&["apply", "-f", "-"], &printed).await.ok();
        assert_eq!(said, "mesh/default unchanged\ntrafficpermission/a unchanged\n");
    }
}
