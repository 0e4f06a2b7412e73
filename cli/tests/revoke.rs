//! `revoke` against the real API.
#![allow(clippy::unwrap_used, reason = "a failed set-up fails the test")]

mod common;

use common::World;
use jiff::Timestamp;
use serde_json::Value;
use ursa_crds::{ObjectKey, Spec};

fn revoked(world: &World) -> Vec<String> {
    match &world.store.get(&ObjectKey::mesh("default")).unwrap().spec {
        Spec::Mesh(spec) => spec.revoked_tokens.iter().flatten().map(|token| token.id.clone()).collect(),
        other => unreachable!("{other:?}"),
    }
}

#[tokio::test]
async fn a_token_is_revoked_by_its_file_or_its_id_and_what_is_left_to_do_is_said() {
    let world = World::start().await;
    let issued = ["generate", "dataplane-token", "--name", "web-1", "--valid-for", "1h"];
    let token = world.run(&issued).await.ok();
    let id = world.tokens.verify_dataplane(token.trim(), Timestamp::now()).unwrap().id;
    let file = world.file("web-1.token", &token);
    let said = world.run(&["revoke", "dataplane-token", "-f", &file, "--reason", "lost laptop"]).await.ok();
    assert!(said.starts_with(&format!("token {id} of mesh default was revoked at ")), "{said}");
    assert!(said.contains("generate dataplane-token"), "{said}");
    assert!(!said.contains("Until"), "without mutual TLS nobody has a certificate: {said}");
    assert_eq!(revoked(&world), std::slice::from_ref(&id));

    let out = world.run(&["revoke", "dataplane-token", "--id", "abc", "-o", "json"]).await.ok();
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&out["mesh"], &out["revokedToken"]["id"]), (&"default".into(), &"abc".into()));
    assert_eq!(revoked(&world), [id, "abc".into()]);

    let elsewhere = world.run(&["revoke", "dataplane-token", "-f", &file, "-m", "other"]).await.failed(1);
    assert_eq!(elsewhere, "error: mesh: the token is for mesh default (422)\n");
    for wrong in [&[][..], &["--id", "a", "-f", &file]] {
        world.run(&[&["revoke", "dataplane-token"], wrong].concat()).await.failed(2);
    }
    let missing = world.run(&["revoke", "dataplane-token", "-f", "gone"]).await.failed(1);
    assert!(missing.contains("cannot read the token in gone"), "{missing}");
}

#[tokio::test]
async fn a_zone_s_credentials_are_revoked_and_the_next_one_counts() {
    let world = World::start().await;
    let unknown = world.run(&["revoke", "zone", "east"]).await.failed(1);
    assert!(unknown.contains("east does not exist"), "{unknown}");
    let create = ["generate", "zone-token", "--zone", "east", "--valid-for", "1h"];
    let issued_at =
        |token: String| world.tokens.verify_zone(token.trim(), Timestamp::now()).unwrap().issued_at;
    let old = issued_at(world.run(&create).await.ok());
    let said = world.run(&["revoke", "zone", "east"]).await.ok();
    assert!(said.starts_with("credentials of zone east from before "), "{said}");
    assert!(said.contains("ursactl zone create east") && said.contains("ursactl delete zone east"), "{said}");
    let new = issued_at(world.run(&create).await.ok());
    let known = world.store.get(&ObjectKey::zone("east")).unwrap();
    let Spec::Zone(spec) = &known.spec else { unreachable!("it is a zone") };
    assert!(spec.refuses_token_of(old).is_some() && spec.refuses_token_of(new).is_none(), "{old} {new}");
}
