//! Sources of permissions by tags: as the mesh declares them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Api, mesh, permission, refused};
use reqwest::Method;
use serde_json::{Value, json};
use ursa_store::Store;

const PERMISSION: &str = "/meshes/default/trafficpermissions/p";

fn declaring(keys: &[&str]) -> String {
    let tags: Vec<Value> = keys.iter().map(|key| json!({"key": key})).collect();
    json!({"apiVersion": ursa_crds::API_VERSION, "kind": "Mesh", "spec": {"identityTags": tags}}).to_string()
}

fn by(key: &str) -> String {
    let mut permission = permission("web");
    permission["spec"]["sources"] = json!([{"match": {"ursamesh.io/namespace": "shop", key: "payments"}}]);
    permission.to_string()
}

#[tokio::test]
async fn a_source_by_a_tag_that_its_mesh_does_not_declare_is_refused_with_what_declares_it() {
    let api = Api::start(Store::memory()).await;
    assert_eq!(api.put("/meshes/other", declaring(&["team"])).await.status(), 201);
    assert_eq!(api.put("/meshes/default", mesh()).await.status(), 201);
    let put = || api.request(Method::PUT, PERMISSION).body(by("team"));
    let problem = refused(&api, "not declared", put(), 422).await;
    assert_eq!(problem["errors"][0]["field"], "spec.sources[0].match");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("Mesh default spec.identityTags: [{key: team}]"), "{detail}");

    assert_eq!(api.put("/meshes/default", declaring(&["team"])).await.status(), 200);
    assert_eq!(put().send().await.unwrap().status(), 201);
    // The mesh may take it back: the permission then admits nobody.
    assert_eq!(api.put("/meshes/default", declaring(&["tier"])).await.status(), 200);
    assert_eq!(api.get(PERMISSION).await["spec"]["sources"][0]["match"]["team"], "payments");
    refused(&api, "taken back", put(), 422).await;
}

#[tokio::test]
async fn a_tag_of_ursa_is_declared_by_no_mesh() {
    let api = Api::start(Store::memory()).await;
    let put = api.request(Method::PUT, "/meshes/default").body(declaring(&["ursamesh.io/workload"]));
    let problem = refused(&api, "reserved", put, 422).await;
    assert_eq!(problem["errors"][0]["field"], "spec.identityTags[0].key");
    assert_eq!(api.put("/meshes/default", mesh()).await.status(), 201);
    let put = api.request(Method::PUT, PERMISSION).body(by("ursamesh.io/workload"));
    refused(&api, "reserved", put, 422).await;
}
