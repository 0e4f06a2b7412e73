//! Backup and restore of a global control plane over its API.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Api, everything, permission, refused, secret};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use ursa_api::Mode;
use ursa_crds::{Object, ObjectKey, Spec};
use ursa_store::names::{ADOPTED, TOKEN_SIGNING_KEY, UNHEARD};
use ursa_store::{Store, checksum};

/// As the server makes it at its first start.
async fn fresh(mode: Mode) -> Api {
    let api = Api::start_as(mode, Store::memory()).await;
    let key = api.tokens.private_pem().into_bytes();
    api.store.private_put(TOKEN_SIGNING_KEY, key).await.unwrap();
    put(&api, "kind: Mesh\nmetadata: {name: default}\n").await;
    api
}

async fn put(api: &Api, yaml: &str) {
    let object = ursa_crds::decode(format!("apiVersion: ursamesh.io/v1alpha1\n{yaml}").as_bytes()).unwrap();
    api.store.put(object, None).await.unwrap();
}

/// With a mesh, policies, a secret, and a zone that is connected.
async fn used() -> Api {
    let api = fresh(Mode::Global).await;
    let mtls = json!({"enabledBackend": "ca-1", "backends": [{"name": "ca-1", "type": "Builtin"}]});
    let mesh = json!({"apiVersion": ursa_crds::API_VERSION, "kind": "Mesh", "spec": {"mtls": mtls}});
    for (path, body) in [
        ("/meshes/default", mesh.to_string()),
        ("/meshes/default/secrets/corp", secret("hush")),
        ("/meshes/default/trafficpermissions/web", permission("web").to_string()),
    ] {
        assert!(api.put(path, body).await.status().is_success(), "{path}");
    }
    put(&api, "kind: Zone\nmetadata: {name: east}\n").await;
    put(&api, "kind: ZoneInsight\nmetadata: {name: east}\nspec: {connected: true, version: '1'}\n").await;
    put(&api, "kind: MeshZone\nmetadata: {name: east}\nspec: {mesh: default}\n").await;
    api
}

async fn restore(api: &Api, backup: &Value) -> (StatusCode, Value) {
    let request = api.request(Method::POST, "/restore").body(backup.to_string());
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

fn plain(api: &Api) -> Vec<Object> {
    let (_, objects) = everything(api);
    let plain = |object: &Object| {
        let mut object = object.clone();
        object.meta.resource_version = 0;
        if let Spec::ZoneInsight(insight) = &mut object.spec {
            (insight.connected, insight.disconnected_at) = (true, None);
        }
        object
    };
    objects.iter().map(|object| plain(object)).collect()
}

#[tokio::test]
async fn an_empty_global_becomes_the_one_of_the_backup() {
    let before = used().await;
    let answer = before.request(Method::GET, "/backup").send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let backup: Value = answer.json().await.unwrap();
    assert_eq!((&backup["format"], &backup["version"]), (&json!("ursa-backup/1"), &json!("0")));

    let after = fresh(Mode::Global).await;
    let (status, answer) = restore(&after, &backup).await;
    assert_eq!((status, &answer["zones"]), (StatusCode::CREATED, &json!(["east"])), "{answer}");
    assert_eq!((&answer["objects"], &answer["createdAt"]), (&json!(6), &backup["createdAt"]));
    assert_eq!(plain(&after), plain(&before));
    let text = |name: &str| String::from_utf8(after.store.private(name).unwrap()).unwrap();
    assert_eq!(text(TOKEN_SIGNING_KEY), before.tokens.private_pem());
    assert_eq!(text(UNHEARD), r#"["east"]"#);
    let adopted = text(ADOPTED);
    let insight = after.store.get(&ObjectKey::zone_insight("east")).unwrap();
    let Spec::ZoneInsight(insight) = &insight.spec else { unreachable!("{insight:?}") };
    assert!(!insight.connected && insight.disconnected_at.is_some(), "it was there, and is away");

    // Whoever does not know how it ended does it again, and gets the same; zones begin anew.
    let (status, answer) = restore(&after, &backup).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    assert_eq!(plain(&after), plain(&before));
    assert_ne!(text(ADOPTED), adopted);
    // And a backup of it is as good as the first.
    let second = after.get("/backup").await;
    let third = fresh(Mode::Global).await;
    assert_eq!(restore(&third, &second).await.0, StatusCode::CREATED);
    assert_eq!(plain(&third), plain(&before));
}

#[tokio::test]
async fn a_mesh_that_was_deleted_before_the_backup_is_not_there_after_it() {
    let before = fresh(Mode::Global).await;
    assert_eq!(before.delete("/meshes/default").await, StatusCode::NO_CONTENT);
    let backup = before.get("/backup").await;
    let after = fresh(Mode::Global).await;
    assert_eq!(restore(&after, &backup).await.0, StatusCode::CREATED);
    assert_eq!(everything(&after).1, []);
}

#[tokio::test]
async fn what_is_not_empty_takes_no_backup_and_says_what_is_there() {
    let backup = used().await.get("/backup").await;
    let after = fresh(Mode::Global).await;
    // The same resource with another content, one more, and the default mesh that somebody has changed.
    after.put("/meshes/default/trafficpermissions/web", permission("db").to_string()).await;
    after.put("/meshes/default/trafficpermissions/mine", permission("web").to_string()).await;
    put(&after, "kind: Mesh\nmetadata: {name: default, labels: {a: b}}\n").await;
    // Neither what the zone said here nor a zone that there was before is in the way.
    put(&after, "kind: Zone\nmetadata: {name: east}\n").await;
    put(&after, "kind: MeshZone\nmetadata: {name: east}\nspec: {mesh: default, roots: ''}\n").await;
    let request = after.request(Method::POST, "/restore").body(backup.to_string());
    let problem = refused(&after, "not empty", request, 409).await;
    let detail = problem["detail"].as_str().unwrap();
    let named = "Mesh default, TrafficPermission default/mine, TrafficPermission default/web. ";
    assert!(detail.contains(&format!("otherwise: {named}")), "{detail}");
    assert_eq!(after.store.private(UNHEARD), None);
}

#[tokio::test]
async fn a_bad_file_changes_nothing() {
    let backup = used().await.get("/backup").await;
    let after = fresh(Mode::Global).await;
    let key = after.store.private(TOKEN_SIGNING_KEY);
    let with = |change: fn(&mut Value)| {
        let mut backup = backup.clone();
        change(&mut backup["content"]);
        backup["checksum"] = json!(checksum(&backup["content"]));
        backup
    };
    let mut damaged = backup.clone();
    damaged["content"]["objects"][0]["created"] = json!("2020-01-01T00:00:00Z");
    for (what, body, status, words) in [
        ("no JSON", "{".to_owned(), 400, "no backup"),
        ("another document", json!({"kind": "Mesh"}).to_string(), 400, "no backup"),
        ("a change by hand", damaged.to_string(), 422, "damaged"),
        (
            "no key",
            with(|content| content["private"] = json!({})).to_string(),
            422,
            "private.token-signing-key: is missing",
        ),
        (
            "what is no key",
            with(|content| content["private"]["token-signing-key"] = json!("x")).to_string(),
            422,
            "private.token-signing-key",
        ),
        (
            "what is no certificate",
            with(|content| content["private"]["server-tls"] = json!("{}")).to_string(),
            422,
            "private.server-tls",
        ),
        (
            "an object of a namespace",
            with(|content| content["objects"][5]["object"]["metadata"]["namespace"] = json!("shop"))
                .to_string(),
            422,
            "no namespaces outside Kubernetes",
        ),
        (
            "what is no permission",
            with(|content| content["objects"][5]["object"]["spec"]["sources"] = json!([])).to_string(),
            422,
            "TrafficPermission default/web: spec.sources",
        ),
    ] {
        let request = after.request(Method::POST, "/restore").body(body);
        let problem = refused(&after, what, request, status).await;
        assert!(problem["detail"].as_str().unwrap().contains(words), "{what}: {problem}");
        assert_eq!(after.store.private(TOKEN_SIGNING_KEY), key, "{what}");
    }
}

#[tokio::test]
async fn only_an_admin_of_a_global_control_plane_gets_one() {
    for mode in [Mode::Standalone, Mode::Zone] {
        let api = fresh(mode).await;
        refused(&api, "backup", api.request(Method::GET, "/backup"), 409).await;
        refused(&api, "restore", api.request(Method::POST, "/restore").body("{}"), 409).await;
    }
    let api = used().await;
    for (method, path) in [(Method::GET, "/backup"), (Method::POST, "/restore")] {
        let nobody = api.client.request(method.clone(), format!("{}{path}", api.base));
        refused(&api, path, nobody, 401).await;
        let user = ursa_identity::UserClaims { name: "ann".into(), groups: vec!["dev".into()] };
        let hour = std::time::Duration::from_hours(1);
        let token = api.tokens.issue_user(&user, hour, jiff::Timestamp::now()).unwrap().token;
        let user = api.client.request(method, format!("{}{path}", api.base)).bearer_auth(token);
        refused(&api, path, user, 403).await;
    }
}
