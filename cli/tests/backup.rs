//! `backup` and `restore` against the real API.
#![allow(clippy::unwrap_used, reason = "a failed set-up fails the test")]

mod common;

use std::os::unix::fs::PermissionsExt as _;

use common::{World, permission};
use serde_json::Value;
use ursa_api::Mode;
use ursa_crds::ObjectKey;
use ursa_store::names::TOKEN_SIGNING_KEY;

/// A global control plane that keeps the key of its tokens, as the server does.
async fn global() -> World {
    let world = World::start_as(Mode::Global).await;
    world.store.private_put(TOKEN_SIGNING_KEY, world.tokens.private_pem().into_bytes()).await.unwrap();
    world
}

#[tokio::test]
async fn a_backup_is_a_file_for_its_owner_and_makes_another_control_plane_the_same() {
    let before = global().await;
    let file = before.file("policy.yaml", &permission("web"));
    before.run(&["apply", "-f", &file]).await.ok();
    before.run(&["zone", "create", "east"]).await.ok();
    let path = before.file("global.ursa", "an older one");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = before.run(&["backup", "--file", &path]).await.ok();
    assert_eq!(
        said,
        format!("3 resources and the keys are in {path}: who reads it can be this control plane\n")
    );
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let backup: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(backup["format"], "ursa-backup/1");
    let folder = std::path::Path::new(&path).parent().unwrap();
    let left = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!left.into_iter().any(|name| name.to_string_lossy().contains(".new-")), "nothing is left over");

    let after = global().await;
    let said = after.run(&["restore", "--file", &path]).await.ok();
    assert!(said.starts_with("restored 3 resources and the keys, as of 20"), "{said}");
    assert!(said.contains("(Ursa 7.8.9)\nzones that come back by themselves: east\n"), "{said}");
    assert!(said.contains("ursa-cp admin-token"), "{said}");
    assert!(after.has("web"));
    let uid = |world: &World| world.store.get(&ObjectKey::zone("east")).unwrap().meta.uid.clone();
    assert_eq!(uid(&after), uid(&before), "the zone's token is bound to it");
    let again = after.run(&["restore", "-f", &path, "-o", "json"]).await.ok();
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!((&again["objects"], &again["zones"][0]), (&3.into(), &"east".into()));
}

#[tokio::test]
async fn what_is_refused_leaves_the_file_and_the_control_plane_as_they_are() {
    let world = World::start().await;
    let path = world.file("global.ursa", "an older one");
    let refused = world.run(&["backup", "--file", &path]).await.failed(1);
    assert_eq!(refused, "error: only a global control plane is backed up like this: ask global (409)\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "an older one");
    let refused = world.run(&["restore", "--file", &path]).await.failed(1);
    assert!(refused.contains("global.ursa is no backup, or not all of one"), "{refused}");
    world.run(&["restore"]).await.failed(2);

    let global = global().await;
    let good = global.path("good.ursa").display().to_string();
    global.run(&["backup", "--file", &good]).await.ok();
    let file = global.file("policy.yaml", &permission("mine"));
    global.run(&["apply", "-f", &file]).await.ok();
    let refused = global.run(&["restore", "--file", &good]).await.failed(1);
    assert!(refused.contains("TrafficPermission default/mine") && refused.contains("(409)"), "{refused}");
    assert!(!refused.contains("do it again"), "{refused}");
    let missing = global.path("none/there.ursa").display().to_string();
    let refused = global.run(&["backup", "--file", &missing]).await.failed(1);
    assert!(refused.contains("cannot write"), "{refused}");
}

#[tokio::test]
async fn a_connection_that_is_lost_on_the_way_is_told_with_what_to_do() {
    let world = global().await;
    let path = world.path("global.ursa").display().to_string();
    world.run(&["backup", "--file", &path]).await.ok();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let closes = tokio::spawn(async move {
        loop {
            drop(listener.accept().await.unwrap());
        }
    });
    let lost = world.run(&["restore", "--file", &path, "--api", &address]).await.failed(1);
    closes.abort();
    assert!(lost.contains("do it again, which is harmless"), "{lost}");
    assert!(lost.contains("cannot reach the control plane"), "{lost}");
}
