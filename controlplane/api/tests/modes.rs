//! What users may write at which control plane, and the tokens that let others in.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::{Api, mesh, permission, refused};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use ursa_api::Mode;
use ursa_crds::{KINDS, Kind, Object, Scope};
use ursa_identity::ReplicaClaims;
use ursa_store::Store;

/// A resource of this kind that nothing is wrong with.
fn valid(kind: Kind) -> Value {
    let web = json!({"ursamesh.io/service": "web"});
    let spec = match kind {
        Kind::Mesh | Kind::Zone | Kind::MeshZone | Kind::MeshZoneInsight | Kind::ZoneInsight => json!({}),
        Kind::DataplaneInsight => json!({"zone": "z", "dataplane": "here"}),
        Kind::Secret => json!({"value": "hush"}),
        Kind::ZoneIngress => json!({"networking": {"address": "192.0.2.1"}}),
        Kind::Dataplane => {
            json!({"networking": {"address": "192.0.2.2", "inbound": [{"port": 80, "servicePort": 8080, "tags": web}]}})
        }
        Kind::TrafficPermission => return permission("web"),
        Kind::TrafficRoute => {
            let service = json!([{"match": web}]);
            json!({"sources": service, "destinations": service, "conf": {"split": [{"weight": 1, "destination": web}]}})
        }
    };
    json!({"apiVersion": ursa_crds::API_VERSION, "kind": kind.info().name, "spec": spec})
}

/// The same, named, as a control plane itself would store it.
fn object(kind: Kind) -> Object {
    let mut value = valid(kind);
    value["metadata"] = json!({"name": "here"});
    ursa_crds::decode_value(&value).unwrap()
}

/// Which kinds users may write where; what is not here is refused.
fn writable(mode: Mode) -> Vec<Kind> {
    let policies = [Kind::Mesh, Kind::TrafficPermission, Kind::TrafficRoute];
    let more: &[Kind] = match mode {
        Mode::Standalone => &[Kind::Zone, Kind::Secret, Kind::Dataplane],
        Mode::Global => &[Kind::Zone, Kind::Secret],
        Mode::Zone => return vec![Kind::Dataplane],
    };
    [policies.as_slice(), more].concat()
}

#[tokio::test]
async fn each_kind_is_written_where_it_belongs() {
    for mode in [Mode::Standalone, Mode::Global, Mode::Zone] {
        let api = Api::start_as(mode, Store::memory()).await;
        let default =
            json!({"apiVersion": ursa_crds::API_VERSION, "kind": "Mesh", "metadata": {"name": "default"}});
        api.store.put(ursa_crds::decode_value(&default).unwrap(), None).await.unwrap();
        for info in KINDS {
            api.store.put(object(info.kind), None).await.unwrap();
            let folder = match info.scope {
                Scope::Global => format!("/{}", info.plural),
                Scope::Mesh => format!("/meshes/default/{}", info.plural),
            };
            let (there, new) = (format!("{folder}/here"), format!("{folder}/new"));
            let what = format!("{mode:?} {}", info.kind);
            let body = valid(info.kind).to_string();
            if writable(mode).contains(&info.kind) {
                assert_eq!(api.put(&new, body.clone()).await.status(), 201, "{what}");
                assert_eq!(api.put(&there, body).await.status(), 200, "{what}");
                assert_eq!(api.delete(&there).await, 204, "{what}");
                assert_eq!(api.delete(&new).await, 204, "{what}");
            } else {
                for path in [&there, &new] {
                    let put = api.request(Method::PUT, path).body(body.clone());
                    let problem = refused(&api, &format!("{what}: put {path}"), put, 409).await;
                    assert!(
                        problem["detail"].as_str().unwrap().contains("cannot be written here"),
                        "{problem}"
                    );
                }
                refused(&api, &format!("{what}: delete"), api.request(Method::DELETE, &there), 409).await;
                assert_eq!(api.get(&there).await["kind"], info.name, "{what}: but it can be read");
            }
        }
    }
}

#[tokio::test]
async fn what_zones_say_of_themselves_does_not_hold_a_mesh() {
    let api = Api::start_as(Mode::Global, Store::memory()).await;
    assert_eq!(api.put("/meshes/default", mesh()).await.status(), 201);
    api.store.put(object(Kind::MeshZone), None).await.unwrap();
    assert_eq!(api.delete("/meshes/default").await, 204);
}

#[tokio::test]
async fn a_put_takes_yaml_as_it_takes_json() {
    let api = Api::start(Store::memory()).await;
    assert_eq!(api.put("/meshes/default", mesh()).await.status(), 201);
    let path = "/meshes/default/trafficpermissions/p";
    let yaml = "# who may call\napiVersion: ursamesh.io/v1alpha1\nkind: TrafficPermission\nspec:\n  \
        sources: [{match: {ursamesh.io/service: web}}]\n  destinations: [{match: {ursamesh.io/service: '*'}}]\n";
    assert_eq!(api.put(path, yaml.into()).await.status(), 201);
    let version = api.store.revision();
    assert_eq!(api.put(path, permission("web").to_string()).await.status(), 200);
    assert_eq!(api.store.revision(), version, "it says the same");
}

#[tokio::test]
async fn tokens_of_replicas_let_in_nobody_and_are_not_issued() {
    let api = Api::start(Store::memory()).await;
    let claims = ReplicaClaims { namespace: "ursa-system".into(), replica: "ursa-cp-1".into() };
    let token = api.tokens.issue_replica(&claims, Duration::from_mins(1), Timestamp::now()).unwrap().token;
    for path in ["/meshes", "/tokens/user"] {
        let request = api.client.get(format!("{}{path}", api.base)).bearer_auth(&token);
        refused(&api, path, request, 401).await;
    }
    let body = json!({"namespace": "ursa-system", "replica": "ursa-cp-1", "validFor": "1h"});
    let request = api.request(Method::POST, "/tokens/replica").json(&body);
    refused(&api, "an admin asks for one", request, 405).await;
}

#[tokio::test]
async fn tokens_of_zones_and_ingresses_let_in_nobody_else() {
    let api = Api::start(Store::memory()).await;
    let now = Timestamp::now();
    let issue = async |path: &str, ask: Value| -> String {
        let response = api.request(Method::POST, path).body(ask.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 201, "{path}");
        response.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned()
    };
    let zone = issue("/tokens/zone", json!({"zone": "east", "validFor": "1h"})).await;
    assert_eq!(api.tokens.verify_zone(&zone, now).unwrap().claims.zone, "east");
    let ingress = issue("/tokens/ingress", json!({"name": "i", "validFor": "1h"})).await;
    let claims = api.tokens.verify_dataplane(&ingress, now).unwrap().claims;
    assert_eq!(
        (claims.mesh.as_str(), claims.zone.as_deref(), claims.name.as_deref()),
        ("", Some("z"), Some("i"))
    );
    assert!(api.tokens.verify_dataplane(&zone, now).is_err(), "a zone is no dataplane");
    assert!(api.tokens.verify_zone(&ingress, now).is_err(), "an ingress is no zone");
    for token in [&zone, &ingress] {
        let request = api.client.get(format!("{}/meshes", api.base)).bearer_auth(token);
        refused(&api, "not of a user", request, 401).await;
    }
    for (path, body, field) in [
        ("/tokens/zone", json!({"zone": "Not.A.Label", "validFor": "1h"}), "zone"),
        ("/tokens/zone", json!({"validFor": "1h"}), "zone"),
        ("/tokens/ingress", json!({"name": "", "validFor": "1h"}), "name"),
        ("/tokens/ingress", json!({"name": "i", "mesh": "default", "validFor": "1h"}), "mesh"),
    ] {
        let request = api.request(Method::POST, path).body(body.to_string());
        let problem = refused(&api, &format!("{path} {body}"), request, 422).await;
        assert_eq!(problem["errors"][0]["field"], field, "{body}: {problem}");
    }
}

#[tokio::test]
async fn what_came_later_is_refused_as_by_the_version_that_did_not_know_it() {
    let members = json!({
        "apiVersion": ursa_crds::API_VERSION, "kind": "Mesh", "metadata": {"name": "default"},
        "spec": {"members": {"zones": ["z"]}},
    });
    let api = Api::start_of(Mode::Standalone, Store::memory(), 1).await;
    let request = api.request(Method::PUT, "/meshes/default").body(members.to_string());
    let problem = refused(&api, "a later field", request, 422).await.to_string();
    assert!(problem.contains("spec.members") && problem.contains("unknown field"), "{problem}");
    let api = Api::start_of(Mode::Standalone, Store::memory(), 2).await;
    assert_eq!(api.put("/meshes/default", members.to_string()).await.status(), 201);
}
