//! `config`, `version` and `completion`.
#![allow(clippy::unwrap_used, reason = "a failed set-up fails the test")]

mod common;

use std::os::unix::fs::PermissionsExt as _;

use common::World;

const CONFIG: [&str; 2] = ["config", "control-planes"];

#[tokio::test]
async fn control_planes_are_added_listed_switched_and_removed() {
    let world = World::start().await;
    let other = World::start_tls();
    let ca = world.file("ca.pem", &other.ca);
    let other_token = world.file("other-token", &other.token(&["admin"]));
    let config = async |arguments: &[&str]| world.run_with(&[&CONFIG, arguments].concat(), &[], "").await;

    let add = ["add", "here", "--api", &world.url, "--token-file", "token"];
    config(&add).await.ok();
    config(&["add", "tls", "--api", &other.url, "--token-file", &other_token, "--ca-file", "ca.pem"])
        .await
        .ok();
    assert!(config(&add).await.failed(1).contains("--overwrite"));
    for (path, mode) in [(".ursa", 0o700), (".ursa/config.yaml", 0o600)] {
        assert_eq!(world.path(path).metadata().unwrap().permissions().mode() & 0o777, mode, "{path}");
    }
    let text = std::fs::read_to_string(world.path(".ursa/config.yaml")).unwrap();
    assert!(!text.contains(&other.token(&["admin"])[..20]), "a token's file, not the token: {text}");
    assert!(text.contains(&ca), "relative names are made whole: {text}");

    let table = config(&["list"]).await.ok();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1][..3], ["here", "-", &format!("{}/", world.url)]);
    assert_eq!(rows[2][..2], ["tls", "*"]);

    // The last one added is the current one; its mesh is not there.
    let get = async || world.run_with(&["get", "mesh", "default"], &[], "").await;
    assert!(get().await.failed(1).contains("Mesh default does not exist"));
    config(&["switch", "here"]).await.ok();
    assert!(get().await.ok().contains("default"));
    assert!(config(&["switch", "nowhere"]).await.failed(1).contains("here, tls"));
    config(&["remove", "here"]).await.ok();
    assert!(get().await.failed(2).contains("no control plane is known"));
    assert!(config(&["remove", "here"]).await.failed(1).contains("\"here\""));
}

#[tokio::test]
async fn a_control_plane_is_added_by_flags_only_and_safely() {
    let world = World::start().await;
    let token = world.path("token");
    let environment = [("URSA_API", world.url.as_str()), ("URSA_TOKEN_FILE", token.to_str().unwrap())];
    let add = async |arguments: &[&str]| {
        world.run_with(&[&CONFIG, &["add", "x"][..], arguments].concat(), &environment, "").await
    };
    assert!(add(&[]).await.failed(2).contains("--api"));
    assert!(add(&["--api", &world.url]).await.failed(2).contains("--token-file"));
    assert!(
        add(&["--api", "http://cp.example", "--token-file", "token"]).await.failed(2).contains("loopback")
    );
    assert!(!world.path(".ursa").exists());
}

#[tokio::test]
async fn the_token_of_one_control_plane_is_not_sent_to_another() {
    let world = World::start().await;
    let add = ["add", "here", "--api", &world.url, "--token-file", "token"];
    world.run_with(&[&CONFIG[..], &add].concat(), &[], "").await.ok();
    let error = world.run_with(&["get", "meshes", "--api", "https://cp.example"], &[], "").await.failed(2);
    assert!(error.contains("--token-file"), "{error}");
}

#[tokio::test]
async fn another_config_file_can_be_named() {
    let world = World::start().await;
    let add = ["add", "here", "--api", &world.url, "--token-file", "token", "--config-file", "new/c.yaml"];
    world.run_with(&[&CONFIG[..], &add].concat(), &[], "").await.ok();
    assert!(!world.path(".ursa").exists());
    world.run_with(&["get", "meshes"], &[("URSA_CONFIG", "new/c.yaml")], "").await.ok();
    world.run_with(&["get", "meshes"], &[], "").await.failed(2);
    world.file("broken.yaml", "controlPlanes: {}\n");
    let error = world.run_with(&["get", "meshes", "--config-file", "broken.yaml"], &[], "").await.failed(1);
    assert!(error.contains("broken.yaml"), "{error}");
}

#[tokio::test]
async fn versions_of_both_sides() {
    let world = World::start().await;
    let own = concat!("ursactl ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(world.run_with(&["version"], &[], "").await.ok(), own);
    assert_eq!(world.run(&["version", "--client"]).await.ok(), own);
    let both = world.run(&["version"]).await.ok();
    assert_eq!(both, format!("{own}control plane 7.8.9 (standalone, zone east, instance host-1)\n"));
    let ran = world.run(&["version", "--token-file", "/no/such"]).await;
    assert_eq!(ran.out, own);
    ran.failed(1);
}

#[tokio::test]
async fn completion_for_three_shells_and_usage_for_the_rest() {
    let world = World::start().await;
    for (shell, sign) in
        [("bash", "complete -F"), ("zsh", "#compdef ursactl"), ("fish", "complete -c ursactl")]
    {
        let script = world.run_with(&["completion", shell], &[], "").await.ok();
        assert!(script.contains(sign) && script.contains("control-planes"), "{shell}");
    }
    for wrong in [
        &["completion", "tcsh"][..],
        &[],
        &["aply"],
        &["get"],
        &["get", "tp", "--token", "x"],
        &["delete", "tp"],
    ] {
        world.run_with(wrong, &[], "").await.failed(2);
    }
    assert!(world.run_with(&["--help"], &[], "").await.ok().contains("Usage: ursactl"));
}
