//! `generate` against the real API: tokens are judged by the control plane's own key.
#![allow(clippy::unwrap_used, reason = "a failed set-up fails the test")]

mod common;

use std::collections::BTreeMap;

use common::{AUTHORITIES, World};
use jiff::Timestamp;
use serde_json::Value;
use ursa_crds::ObjectKey;
use ursa_identity::{DataplaneClaims, UserClaims, ZoneClaims};

/// The token that stands alone on the standard output.
async fn token(world: &World, arguments: &[&str]) -> String {
    let out = world.run(&[&["generate"], arguments, &["--valid-for", "90m"]].concat()).await.ok();
    let token = out.strip_suffix('\n').unwrap();
    assert!(!token.is_empty() && !token.contains(char::is_whitespace), "{out:?}");
    token.to_owned()
}

#[tokio::test]
async fn a_dataplane_token_says_what_was_asked_for_and_no_more() {
    let world = World::start().await;
    let arguments = [
        "dataplane-token",
        "--name",
        "redis-1",
        "--service",
        "redis",
        "--service",
        "db",
        "--zone",
        "east",
        "--tag",
        "team=payments",
        "--tag",
        "example.com/tier=a.b",
        "-m",
        "m",
    ];
    let both = token(&world, &arguments).await;
    let now = Timestamp::now();
    let claims = DataplaneClaims {
        mesh: "m".into(),
        zone: Some("east".into()),
        name: Some("redis-1".into()),
        services: vec!["redis".into(), "db".into()],
        tags: [("team", "payments"), ("example.com/tier", "a.b")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    };
    assert_eq!(world.tokens.verify_dataplane(&both, now).unwrap().claims, claims);
    let later = |minutes: i64| now + jiff::SignedDuration::from_mins(minutes);
    assert!(world.tokens.verify_dataplane(&both, later(85)).is_ok());
    assert!(world.tokens.verify_dataplane(&both, later(95)).is_err(), "after --valid-for");

    let service = token(&world, &["dataplane-token", "--service", "redis"]).await;
    let claims = DataplaneClaims {
        mesh: "default".into(),
        zone: None,
        name: None,
        services: vec!["redis".into()],
        tags: BTreeMap::new(),
    };
    assert_eq!(world.tokens.verify_dataplane(&service, now).unwrap().claims, claims);
}

#[tokio::test]
async fn users_zones_and_ingresses_get_tokens_of_their_own() {
    let world = World::start().await;
    let now = Timestamp::now();
    let user = token(&world, &["user-token", "--name", "ann", "--group", "admin", "--group", "dev"]).await;
    let claims = UserClaims { name: "ann".into(), groups: vec!["admin".into(), "dev".into()] };
    assert_eq!(world.tokens.verify_user(&user, now).unwrap(), claims);
    let file = world.file("ann", &format!("{user}\n"));
    world.run(&["get", "meshes", "--token-file", &file]).await.ok();
    let zone = token(&world, &["zone-token", "--zone", "west"]).await;
    let west = world.store.get(&ObjectKey::zone("west")).expect("there is the zone now");
    let claims = ZoneClaims { zone: "west".into(), uid: west.meta.uid.clone() };
    assert_eq!(world.tokens.verify_zone(&zone, now).unwrap().claims, claims);
    let again = token(&world, &["zone-token", "--zone", "west"]).await;
    assert_eq!(world.tokens.verify_zone(&again, now).unwrap().claims, claims, "it is the same zone");
    let ingress = token(&world, &["ingress-token", "--name", "in"]).await;
    assert_eq!(world.tokens.verify_dataplane(&ingress, now).unwrap().claims.name, Some("in".into()));
}

#[tokio::test]
async fn what_is_no_request_is_usage_and_what_is_refused_is_named() {
    let world = World::start().await;
    for wrong in [
        &["dataplane-token", "--valid-for", "1h"][..],
        &["dataplane-token", "--name", "a"],
        &["dataplane-token", "--name", "a", "--valid-for", "soon"],
        &["dataplane-token", "--name", "a", "--valid-for", "1h", "--tag", "team"],
        &["user-token", "--name", "a", "--valid-for", "1h"],
    ] {
        let ran = world.run(&[&["generate"], wrong].concat()).await;
        assert_eq!(ran.out, "");
        ran.failed(2);
    }
    let refused = ["generate", "dataplane-token", "--name", "a", "--service", "", "--valid-for", "1h"];
    assert_eq!(world.run(&refused).await.failed(1), "error: services: a service must not be empty (422)\n");
    let json =
        world.run(&["generate", "zone-token", "--zone", "z", "--valid-for", "1h", "-o", "json"]).await.ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json["token"].is_string() && json["expiresAt"].is_string(), "{:?}", json["expiresAt"]);
}

#[tokio::test]
async fn a_zone_s_credential_is_a_secret_that_kubectl_takes() {
    let world = World::start().await;
    let printed = world.run(&["zone", "create", "east"]).await.ok();
    let secret: Value = serde_saphyr::from_str(&printed).unwrap();
    let meta = &secret["metadata"];
    assert_eq!((&meta["name"], &meta["namespace"]), (&"zone-east".into(), &"ursa-system".into()));
    assert!(meta["annotations"]["ursamesh.io/expires-at"].is_string(), "{meta}");
    assert_eq!(secret["stringData"]["ca.crt"], AUTHORITIES);
    let token = secret["stringData"]["token"].as_str().unwrap();
    assert_eq!(world.tokens.verify_zone(token, Timestamp::now()).unwrap().claims.zone, "east");
    let other = [
        "zone",
        "create",
        "west",
        "--secret",
        "global",
        "--namespace",
        "mesh",
        "--valid-for",
        "1h",
        "-o",
        "json",
    ];
    let secret: Value = serde_json::from_str(&world.run(&other).await.ok()).unwrap();
    let meta = &secret["metadata"];
    assert_eq!((&meta["name"], &meta["namespace"]), (&"global".into(), &"mesh".into()));
    assert_eq!(
        world.run(&["zone", "create", "no_label"]).await.failed(1),
        "error: zone: must be a DNS label (422)\n"
    );
}
