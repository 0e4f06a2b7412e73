//! `/tokens/…/revoke`, and what becomes of revocations when their resources are replaced.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::{Api, mesh, refused};
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};
use ursa_api::Mode;
use ursa_crds::{ObjectKey, RevokedToken, Spec, ZoneSpec};
use ursa_identity::{DataplaneClaims, Tokens, read_unverified};
use ursa_store::Store;

const HOUR: Duration = Duration::from_hours(1);

/// With the mesh `default`.
async fn global() -> Api {
    let api = Api::start_as(Mode::Global, Store::memory()).await;
    assert_eq!(api.put("/meshes/default", mesh()).await.status(), 201);
    api
}

async fn post(api: &Api, path: &str, body: &Value) -> Value {
    let response = api.request(Method::POST, path).body(body.to_string()).send().await.unwrap();
    let status = response.status();
    let answer = response.json().await.unwrap();
    assert!(status.is_success(), "{path}: {status}: {answer}");
    answer
}

fn revoked(api: &Api) -> Vec<RevokedToken> {
    match &api.store.get(&ObjectKey::mesh("default")).unwrap().spec {
        Spec::Mesh(spec) => spec.revoked_tokens.clone().unwrap_or_default(),
        other => unreachable!("{other:?}"),
    }
}

fn not_before(api: &Api, zone: &str) -> Option<Timestamp> {
    match &api.store.get(&ObjectKey::zone(zone)).unwrap().spec {
        Spec::Zone(ZoneSpec { credentials_not_before, .. }) => *credentials_not_before,
        other => unreachable!("{other:?}"),
    }
}

/// As a zone's own control plane issues them, with a key that global does not know.
fn token(mesh: &str) -> String {
    let claims = DataplaneClaims {
        mesh: mesh.into(),
        zone: None,
        name: Some("web-1".into()),
        services: Vec::new(),
        tags: std::collections::BTreeMap::new(),
    };
    Tokens::generate().unwrap().issue_dataplane(&claims, HOUR, Timestamp::now()).unwrap().token
}

#[tokio::test]
async fn a_data_plane_token_is_revoked_by_itself_or_by_its_id() {
    let api = global().await;
    let with_mtls = json!({"apiVersion": ursa_crds::API_VERSION, "kind": "Mesh", "spec": {"mtls": {
        "enabledBackend": "ca-1",
        "backends": [{"name": "ca-1", "type": "Builtin", "dpCert": {"rotation": {"expiration": "2h"}}}],
    }}});
    assert_eq!(api.put("/meshes/default", with_mtls.to_string()).await.status(), 200);
    let token = token("default");
    let known = read_unverified(&token).unwrap();
    let before = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    let answer =
        post(&api, "/tokens/dataplane/revoke", &json!({"token": token, "reason": "lost laptop"})).await;
    assert!(!answer.to_string().contains(token.rsplit('.').next().unwrap()), "the answer shows no token");
    let [entry] = revoked(&api).try_into().unwrap();
    assert_eq!(answer["revokedToken"], json!(entry));
    let at = entry.revoked_at.unwrap();
    assert!(before <= at && at <= Timestamp::now(), "{at}");
    let expected = RevokedToken {
        id: known.id.clone(),
        revoked_at: Some(at),
        expires_at: Some(known.expires_at),
        reason: Some("lost laptop".into()),
    };
    assert_eq!(entry, expected);
    assert_eq!(answer["certificatesEndBy"], json!(at + SignedDuration::from_hours(2)));

    // Once more changes nothing, not even since when.
    let again = post(&api, "/tokens/dataplane/revoke", &json!({"id": known.id, "mesh": "default"})).await;
    assert_eq!(again["revokedToken"], json!(expected));
    post(&api, "/tokens/dataplane/revoke", &json!({"id": "another"})).await;
    let ids: Vec<String> = revoked(&api).into_iter().map(|entry| entry.id).collect();
    assert_eq!(ids, [known.id, "another".into()]);
}

#[tokio::test]
async fn entries_that_refuse_nobody_any_more_make_room() {
    let api = global().await;
    let old = json!({"apiVersion": ursa_crds::API_VERSION, "kind": "Mesh", "spec": {"revokedTokens": [
        {"id": "over", "revokedAt": "2020-01-01T00:00:00Z", "expiresAt": "2020-01-02T00:00:00Z"},
        {"id": "undated"},
    ]}});
    assert_eq!(api.put("/meshes/default", old.to_string()).await.status(), 200);
    post(&api, "/tokens/dataplane/revoke", &json!({"id": "new"})).await;
    let ids: Vec<String> = revoked(&api).into_iter().map(|entry| entry.id).collect();
    assert_eq!(ids, ["undated", "new"]);
}

#[tokio::test]
async fn what_cannot_be_revoked_is_refused_and_named() {
    let api = global().await;
    let zone = post(&api, "/tokens/zone", &json!({"zone": "east", "validFor": "1h"})).await;
    for (what, body, field, word) in [
        ("nothing", json!({}), "token", "its id"),
        ("both", json!({"token": token("default"), "id": "a"}), "token", "its id"),
        ("no token", json!({"token": "s3cret"}), "token", "cannot be read"),
        ("a zone's", json!({"token": zone["token"]}), "token", "another kind"),
        ("an ingress's", json!({"token": token("")}), "token", "zone ingress"),
        ("another mesh", json!({"token": token("default"), "mesh": "other"}), "mesh", "mesh default"),
        ("no id", json!({"id": "a/b"}), "spec.revokedTokens[0].id", "1 to 64"),
    ] {
        let request = api.request(Method::POST, "/tokens/dataplane/revoke").body(body.to_string());
        let problem = refused(&api, what, request, 422).await;
        assert_eq!(problem["errors"][0]["field"], field, "{what}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{what}: {problem}");
        assert!(!problem.to_string().contains("s3cret"), "{what}: {problem}");
    }
    for (path, body) in [
        ("/tokens/dataplane/revoke", json!({"id": "a", "mesh": "gone"})),
        ("/tokens/zone/revoke", json!({"zone": "gone"})),
    ] {
        let request = api.request(Method::POST, path).body(body.to_string());
        let problem = refused(&api, path, request, 404).await;
        assert!(problem["detail"].as_str().unwrap().contains("gone does not exist"), "{problem}");
    }
    let zone = Api::start_as(Mode::Zone, Store::memory()).await;
    let default =
        json!({"apiVersion": ursa_crds::API_VERSION, "kind": "Mesh", "metadata": {"name": "default"}});
    zone.store.put(ursa_crds::decode_value(&default).unwrap(), None).await.unwrap();
    let request = zone.request(Method::POST, "/tokens/dataplane/revoke").body(json!({"id": "a"}).to_string());
    let problem = refused(&zone, "at a zone", request, 409).await;
    assert!(problem["detail"].as_str().unwrap().contains("belongs to global"), "{problem}");
}

#[tokio::test]
async fn a_zone_s_tokens_are_revoked_up_to_now_and_the_next_one_counts() {
    let api = global().await;
    let issue = async || {
        let answer = post(&api, "/tokens/zone", &json!({"zone": "east", "validFor": "1h"})).await;
        let token = answer["token"].as_str().unwrap().to_owned();
        api.tokens.verify_zone(&token, Timestamp::now()).unwrap().issued_at
    };
    // In one second, so that the order alone decides.
    for _ in 0..5 {
        let before = issue().await;
        let answer = post(&api, "/tokens/zone/revoke", &json!({"zone": "east"})).await;
        let since = not_before(&api, "east").unwrap();
        assert_eq!(answer, json!({"zone": "east", "credentialsNotBefore": since}));
        let spec = ZoneSpec { credentials_not_before: Some(since), ..ZoneSpec::default() };
        assert_eq!(spec.refuses_token_of(before), Some(since), "{before} is before {since}");
        let after = issue().await;
        assert_eq!(spec.refuses_token_of(after), None, "{after} is not before {since}");
    }
    let far = json!({"apiVersion": ursa_crds::API_VERSION, "kind": "Zone", "spec": {"credentialsNotBefore": "2100-01-01T00:00:00Z"}});
    assert_eq!(api.put("/zones/east", far.to_string()).await.status(), 200);
    let ask = json!({"zone": "east", "validFor": "1h"}).to_string();
    let problem =
        refused(&api, "a token of no use", api.request(Method::POST, "/tokens/zone").body(ask), 409).await;
    assert!(problem["detail"].as_str().unwrap().contains("2100"), "{problem}");
}

#[tokio::test]
async fn a_file_from_before_revokes_no_revocation() {
    let api = global().await;
    post(&api, "/tokens/zone", &json!({"zone": "east", "validFor": "1h"})).await;
    post(&api, "/tokens/dataplane/revoke", &json!({"id": "a"})).await;
    post(&api, "/tokens/zone/revoke", &json!({"zone": "east"})).await;
    let since = not_before(&api, "east");
    assert_eq!(api.put("/meshes/default", mesh()).await.status(), 200);
    let zone = json!({"apiVersion": ursa_crds::API_VERSION, "kind": "Zone", "spec": {"enabled": false}});
    assert_eq!(api.put("/zones/east", zone.to_string()).await.status(), 200);
    assert_eq!((revoked(&api).len(), not_before(&api, "east")), (1, since));
    // Said in so many words it goes.
    let none = json!({"apiVersion": ursa_crds::API_VERSION, "kind": "Mesh", "spec": {"revokedTokens": []}});
    assert_eq!(api.put("/meshes/default", none.to_string()).await.status(), 200);
    assert_eq!(revoked(&api), []);
}

#[tokio::test]
async fn revocations_at_the_same_time_all_count() {
    let api = global().await;
    let all = (0..20).map(async |i: u32| {
        post(&api, "/tokens/dataplane/revoke", &json!({"id": format!("t{i}")})).await;
        assert_eq!(api.put("/meshes/default", mesh()).await.status(), 200);
    });
    let mut tasks = Vec::new();
    for one in all {
        tasks.push(Box::pin(one));
    }
    // Interleaved by hand: nothing but the tests' own crates is needed.
    let wait = std::future::poll_fn(|context| {
        tasks.retain_mut(|task| task.as_mut().poll(context).is_pending());
        if tasks.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    });
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("all are done");
    assert_eq!(revoked(&api).len(), 20);
}
