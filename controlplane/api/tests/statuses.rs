//! What the API answers to what, as a table; and that whatever is refused changes nothing.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Api, mesh, permission, refused};
use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use ursa_identity::{DataplaneClaims, Tokens, UserClaims};
use ursa_store::Store;

const PERMISSION: &str = "/meshes/default/trafficpermissions/p";
const HOUR: Duration = Duration::from_hours(1);

/// A mesh `default` (version 1) with a permission `p` (version 3), and an empty mesh `other` (version 2).
async fn api() -> Api {
    let api = Api::start(Store::memory()).await;
    for path in ["/meshes/default", "/meshes/other"] {
        assert_eq!(api.put(path, mesh()).await.status(), 201);
    }
    assert_eq!(api.put(PERMISSION, permission("web").to_string()).await.status(), 201);
    api
}

#[tokio::test]
async fn without_an_admins_token_nothing_is_done_or_said() {
    let api = api().await;
    let now = Timestamp::now();
    let user = |groups: &[&str]| UserClaims {
        name: "someone".into(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    };
    let issue = |tokens: &Tokens, now| tokens.issue_user(&user(&["admin"]), HOUR, now).unwrap().token;
    let dataplane = DataplaneClaims {
        mesh: "default".into(),
        zone: None,
        name: Some("d".into()),
        services: vec!["web".into()],
        tags: BTreeMap::new(),
    };
    let valid = &api.token;
    let cases = [
        ("none", None, 401),
        ("empty", Some("Bearer ".to_owned()), 401),
        ("no scheme", Some(valid.clone()), 401),
        ("another scheme", Some(format!("Basic {valid}")), 401),
        ("bad", Some("Bearer a.b.c".into()), 401),
        ("altered", Some(format!("Bearer {}x", &valid[..valid.len() - 2])), 401),
        ("expired", Some(format!("Bearer {}", issue(&api.tokens, now - SignedDuration::from_hours(2)))), 401),
        ("foreign", Some(format!("Bearer {}", issue(&Tokens::generate().unwrap(), now))), 401),
        (
            "of a dataplane",
            Some(format!("Bearer {}", api.tokens.issue_dataplane(&dataplane, HOUR, now).unwrap().token)),
            401,
        ),
        (
            "without the group",
            Some(format!("Bearer {}", api.tokens.issue_user(&user(&["admins"]), HOUR, now).unwrap().token)),
            403,
        ),
    ];
    for (what, authorization, status) in cases {
        let targets = [
            (Method::GET, "/"),
            (Method::GET, "/no/such/path/at/all"),
            (Method::PUT, PERMISSION),
            (Method::PUT, "/meshes/nope/trafficpermissions/p"),
            (Method::DELETE, PERMISSION),
            (Method::PATCH, "/meshes/default"),
            (Method::POST, "/tokens/user"),
        ];
        for (method, path) in targets {
            let mut request = api.client.request(method.clone(), format!("{}{path}", api.base)).body("{");
            if let Some(authorization) = &authorization {
                request = request.header("Authorization", authorization);
            }
            let problem = refused(&api, &format!("{what}: {method} {path}"), request, status).await;
            assert!(!problem.to_string().contains("eyJ"), "no token is repeated: {problem}");
        }
    }
    let answer = api.client.get(&api.base).send().await.unwrap();
    assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    let health = api.client.get(format!("{}/healthz", api.base)).send().await.unwrap();
    assert_eq!(health.status(), 200);
}

#[tokio::test]
async fn a_browser_that_was_lured_here_is_turned_away_after_the_token() {
    let api = api().await;
    for (header, value) in [("Host", "evil.example"), ("Origin", "http://evil.example"), ("Origin", "null")] {
        let request = api.request(Method::DELETE, PERMISSION).header(header, value);
        refused(&api, &format!("{header}: {value}"), request, 403).await;
        let request = api.client.delete(format!("{}{PERMISSION}", api.base)).header(header, value);
        refused(&api, &format!("{header}: {value}, no token"), request, 401).await;
    }
    let own = api.request(Method::GET, "/meshes").header("Origin", &api.base).send().await.unwrap();
    assert_eq!(own.status(), 200);
    assert!(!own.headers().contains_key("access-control-allow-origin"));
}

/// What it is, method, path, body, status, field.
type Case<'a> = (&'a str, &'a Method, &'a str, Vec<u8>, u16, &'a str);

/// Requests that are refused, with a part of the field that is named (empty: none is).
#[tokio::test]
async fn each_refusal_has_its_status_and_names_the_field() {
    let api = api().await;
    let with = |pointer: &str, value: Value| {
        let mut body = permission("web");
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[last] = value;
        body.to_string()
    };
    let route = |split: Value| {
        let service = json!([{"match": {"ursamesh.io/service": "web"}}]);
        let spec = json!({"sources": service, "destinations": service, "conf": {"split": split}});
        json!({"apiVersion": ursa_crds::API_VERSION, "kind": "TrafficRoute", "spec": spec}).to_string()
    };
    let to = |weight: i64| json!({"weight": weight, "destination": {"ursamesh.io/service": "web"}});
    let dataplane = |inbound: Value| {
        let spec = json!({"networking": {"address": "127.0.0.1", "inbound": inbound}});
        json!({"apiVersion": ursa_crds::API_VERSION, "kind": "Dataplane", "spec": spec}).to_string()
    };
    let tags = json!({"ursamesh.io/service": "web"});
    let (route_path, dataplane_path) = ("/meshes/default/trafficroutes/r", "/meshes/default/dataplanes/d");
    let long = "n".repeat(254);
    let long_path = format!("/meshes/default/trafficroutes/{long}");
    let valid = permission("web").to_string();
    let backend =
        json!({"mtls": {"enabledBackend": "gone", "backends": [{"name": "ca-1", "type": "Builtin"}]}});
    let (get, put, delete) = (Method::GET, Method::PUT, Method::DELETE);
    #[rustfmt::skip]
    let cases: Vec<Case<'_>> = vec![
        ("unknown path", &get, "/a/b/c/d/e", vec![], 404, ""),
        ("unknown kind", &get, "/meshes/default/nothings", vec![], 404, ""),
        ("unknown kind, one", &put, "/meshes/default/nothings/n", valid.clone().into(), 404, ""),
        ("a kind in a mesh, asked for without", &get, "/trafficroutes", vec![], 404, ""),
        ("unknown mesh", &get, "/meshes/nope", vec![], 404, ""),
        ("list of an unknown mesh", &get, "/meshes/nope/trafficroutes", vec![], 404, ""),
        ("put into an unknown mesh", &put, "/meshes/nope/trafficpermissions/p", valid.clone().into(), 404, ""),
        ("unknown name", &get, route_path, vec![], 404, ""),
        ("delete of nothing", &delete, route_path, vec![], 404, ""),
        ("delete of no mesh", &delete, "/meshes/nope", vec![], 404, ""),
        ("another method", &Method::POST, PERMISSION, valid.clone().into(), 405, ""),
        ("a method for lists", &delete, "/meshes", vec![], 405, ""),
        ("a page of nothing", &get, "/meshes?limit=0", vec![], 400, "limit"),
        ("a page of text", &get, "/meshes?limit=ten", vec![], 400, "limit"),
        ("a page after nothing", &get, "/meshes?continue=default", vec![], 400, "continue"),
        ("empty", &put, PERMISSION, vec![], 400, ""),
        ("broken", &put, PERMISSION, b"{\"kind\": ".into(), 400, ""),
        ("not UTF-8", &put, PERMISSION, b"kind: \xff\xfe".into(), 400, ""),
        ("a key twice", &put, PERMISSION, b"kind: Mesh\nkind: Mesh\n".into(), 400, ""),
        ("a key twice, deep", &put, PERMISSION, b"spec: {a: {b: 1, b: 2}}\n".into(), 400, ""),
        ("two documents", &put, PERMISSION, format!("{valid}\n---\n{valid}").into(), 400, ""),
        ("another name", &put, PERMISSION, valid.replace("\"spec\"", r#""metadata":{"name":"q"},"spec""#).into(), 400, "metadata.name"),
        ("another mesh", &put, PERMISSION, with("/spec/mesh", json!("other")).into(), 400, "spec.mesh"),
        ("another kind", &put, PERMISSION, mesh().into(), 400, "kind"),
        ("a namespace", &put, PERMISSION, valid.replace("\"spec\"", r#""metadata":{"namespace":"a"},"spec""#).into(), 400, "metadata.namespace"),
        ("10 MB", &put, PERMISSION, vec![b' '; 10_000_000], 413, ""),
        ("not a map", &put, PERMISSION, b"[1, 2]".into(), 422, ""),
        ("another version", &put, PERMISSION, with("/apiVersion", json!("ursamesh.io/v9")).into(), 422, "apiVersion"),
        ("unknown field", &put, PERMISSION, with("/spec/destination", json!([])).into(), 422, "spec.destination"),
        ("unknown field at the top", &put, PERMISSION, with("/sepc", json!({})).into(), 422, "sepc"),
        ("wrong type", &put, PERMISSION, with("/spec/sources", json!("web")).into(), 422, "spec.sources"),
        ("wrong type of metadata", &put, PERMISSION, with("/metadata", json!({"labels": [1]})).into(), 422, "metadata.labels"),
        ("a version that is none", &put, PERMISSION, with("/metadata", json!({"resourceVersion": "new"})).into(), 422, "metadata.resourceVersion"),
        ("a source that no certificate proves", &put, PERMISSION, with("/spec/sources", json!([{"match": {"version": "v1"}}])).into(), 422, "spec.sources[0].match"),
        ("an empty source", &put, PERMISSION, with("/spec/sources", json!([{"match": {}}])).into(), 422, "spec.sources[0].match"),
        ("a trailing slash", &get, "/meshes/default/", vec![], 404, ""),
        ("negative weight", &put, route_path, route(json!([to(-1)])).into(), 422, "spec.conf.split[0].weight"),
        ("no weight at all", &put, route_path, route(json!([to(0), to(0)])).into(), 422, "spec.conf.split"),
        ("no split", &put, route_path, route(json!([])).into(), 422, "spec.conf.split"),
        ("no service tag", &put, dataplane_path, dataplane(json!([{"port": 80, "servicePort": 8080, "tags": {"version": "1"}}])).into(), 422, "tags"),
        ("a port twice", &put, dataplane_path, dataplane(json!([{"port": 80, "servicePort": 8080, "tags": tags}, {"port": 80, "servicePort": 8081, "tags": tags}])).into(), 422, "inbound[1].port"),
        ("a name too long", &put, &long_path, route(json!([to(1)])).into(), 422, "metadata.name"),
        ("a name that is none", &put, "/meshes/Big_One", mesh().into(), 422, "metadata.name"),
        ("a backend that is not there", &put, "/meshes/default", json!({"apiVersion": ursa_crds::API_VERSION, "kind": "Mesh", "spec": backend}).to_string().into(), 422, "spec.mtls.enabledBackend"),
        ("stale in the body", &put, PERMISSION, with("/metadata", json!({"resourceVersion": "2"})).into(), 409, ""),
        ("stale though the same", &put, PERMISSION, with("/metadata", json!({"resourceVersion": "1"})).into(), 409, ""),
        ("of nothing", &put, "/meshes/default/trafficpermissions/q", with("/metadata", json!({"resourceVersion": "1"})).into(), 409, ""),
        ("a mesh that holds something", &delete, "/meshes/default", vec![], 409, ""),
    ];
    for (what, method, path, body, status, field) in cases {
        let request = api.request(method.clone(), path).body(body);
        let problem = refused(&api, what, request, status).await;
        if !field.is_empty() {
            let errors = problem["errors"].as_array().unwrap();
            let mut named = errors.iter().map(|error| error["field"].as_str().unwrap());
            let named = named.find(|named| named.contains(field));
            assert!(
                named.is_some_and(|named| problem["detail"].as_str().unwrap().contains(named)),
                "{what}: {problem}"
            );
        }
    }
    let problem = refused(&api, "held", api.request(delete, "/meshes/default"), 409).await;
    assert!(problem["detail"].as_str().unwrap().contains("1 trafficpermissions"), "{problem}");
}

#[tokio::test]
async fn a_stale_condition_is_refused_and_a_right_one_holds() {
    let api = api().await;
    for (header, tag) in
        [("If-Match", "\"2\""), ("If-Match", "3"), ("If-None-Match", "*"), ("If-None-Match", "\"3\"")]
    {
        let request =
            api.request(Method::PUT, PERMISSION).header(header, tag).body(permission("db").to_string());
        refused(&api, &format!("{header} {tag}"), request, 412).await;
        let request = api.request(Method::DELETE, PERMISSION).header(header, tag);
        refused(&api, &format!("delete {header} {tag}"), request, 412).await;
    }
    let absent = api.request(Method::PUT, "/meshes/new").header("If-Match", "*").body(mesh());
    refused(&api, "If-Match * of nothing", absent, 412).await;

    let send = async |request: RequestBuilder| -> Response { request.send().await.unwrap() };
    let put = |tag: &str, source: &str| {
        api.request(Method::PUT, PERMISSION).header("If-Match", tag).body(permission(source).to_string())
    };
    let answer = send(put("\"3\"", "db")).await;
    assert_eq!((answer.status().as_u16(), answer.headers()["etag"].to_str().unwrap()), (200, "\"4\""));
    assert_eq!(send(put("*", "web")).await.status(), 200);
    assert_eq!(send(api.request(Method::DELETE, PERMISSION).header("If-Match", "\"5\"")).await.status(), 204);
    assert_eq!(send(api.request(Method::DELETE, "/meshes/default")).await.status(), 204);
}

#[tokio::test]
async fn a_resource_is_created_updated_left_and_deleted() {
    let api = api().await;
    let created = api.put("/meshes/default/trafficpermissions/q", permission("web").to_string()).await;
    assert_eq!(created.status(), 201);
    let created: Value = created.json().await.unwrap();
    let meta = &created["metadata"];
    assert_eq!(
        (&meta["name"], &meta["generation"], &meta["resourceVersion"]),
        (&json!("q"), &json!(1), &json!("4"))
    );
    assert_eq!(created["spec"]["mesh"], "default");
    assert_eq!(api.get("/meshes/default/trafficpermissions/q").await, created);

    // What the server sets, and the status, is not for users to set.
    let mut again = created.clone();
    again["metadata"]["uid"] = json!("mine");
    again["metadata"]["generation"] = json!(9);
    again["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    again["status"] = json!({"conditions": [{"type": "Programmed", "status": "True"}]});
    let unchanged = api.put("/meshes/default/trafficpermissions/q", again.to_string()).await;
    assert_eq!(
        (unchanged.status().as_u16(), unchanged.json::<Value>().await.unwrap()),
        (200, created.clone())
    );

    again["spec"]["action"] = json!("Deny");
    let updated = api.put("/meshes/default/trafficpermissions/q", again.to_string()).await;
    assert_eq!(updated.status(), 200);
    let updated: Value = updated.json().await.unwrap();
    assert_eq!(
        (&updated["metadata"]["generation"], &updated["metadata"]["uid"]),
        (&json!(2), &created["metadata"]["uid"])
    );

    let list = api.get("/meshes/default/trafficpermissions").await;
    let names: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|item| &item["metadata"]["name"]).collect();
    assert_eq!((names, list.get("continue")), (vec![&json!("p"), &json!("q")], None));
    let meshes = api.get("/meshes?limit=1").await;
    assert_eq!(meshes["items"][0]["metadata"]["name"], "default");
    let token = meshes["continue"].as_str().unwrap();
    let rest = api.get(&format!("/meshes?limit=1&continue={token}")).await;
    assert_eq!((&rest["items"][0]["metadata"]["name"], rest.get("continue")), (&json!("other"), None));

    for path in [PERMISSION, "/meshes/default/trafficpermissions/q", "/meshes/default", "/meshes/other"] {
        assert_eq!(api.delete(path).await, 204, "{path}");
        assert_eq!(api.delete(path).await, 404, "{path}");
    }
    let info = api.get("/").await;
    assert_eq!(
        (&info["version"], &info["mode"], &info["zone"]),
        (&json!("0"), &json!("standalone"), &json!("z"))
    );
}

#[tokio::test]
async fn tokens_are_issued_as_asked_or_refused_with_the_field() {
    let api = api().await;
    let post = |path: &str, body: &Value| api.request(Method::POST, path).body(body.to_string());
    let ask = json!({"mesh": "default", "name": "d", "services": ["web"], "validFor": "1h"});
    let issued = post("/tokens/dataplane", &ask).send().await.unwrap();
    assert!(issued.status().is_success());
    assert_eq!(issued.headers()["cache-control"], "no-store");
    let issued: Value = issued.json().await.unwrap();
    let claims =
        api.tokens.verify_dataplane(issued["token"].as_str().unwrap(), Timestamp::now()).unwrap().claims;
    assert_eq!(
        (claims.mesh.as_str(), claims.name.as_deref(), claims.services),
        ("default", Some("d"), vec!["web".to_owned()])
    );
    let expires: Timestamp = issued["expiresAt"].as_str().unwrap().parse().unwrap();
    let left = expires.duration_since(Timestamp::now()).as_secs();
    assert!((3500..=3600).contains(&left), "{left}");

    let ask = json!({"name": "ann", "groups": ["admin"], "validFor": "5m"});
    let issued: Value = post("/tokens/user", &ask).send().await.unwrap().json().await.unwrap();
    let list = api.client.get(format!("{}/meshes", api.base)).bearer_auth(issued["token"].as_str().unwrap());
    assert_eq!(list.send().await.unwrap().status(), 200);

    let cases = [
        ("/tokens/dataplane", json!({"mesh": "default", "validFor": "1h"}), 422, "services"),
        ("/tokens/dataplane", json!({"mesh": "default", "name": "", "validFor": "1h"}), 422, "name"),
        ("/tokens/dataplane", json!({"mesh": "default", "name": "d"}), 422, "validFor"),
        ("/tokens/dataplane", json!({"mesh": "default", "name": "d", "validFor": "0s"}), 422, "validFor"),
        (
            "/tokens/dataplane",
            json!({"mesh": "default", "name": "d", "validFor": "9999999h"}),
            422,
            "validFor",
        ),
        ("/tokens/dataplane", json!({"mesh": "default", "name": "d", "validFor": 60}), 422, "validFor"),
        (
            "/tokens/dataplane",
            json!({"mesh": "default", "name": "d", "validFor": "1h", "tags": {"ursamesh.io/zone": "x"}}),
            422,
            "tags",
        ),
        (
            "/tokens/dataplane",
            json!({"mesh": "default", "name": "d", "validFor": "1h", "tags": {"team": "a b"}}),
            422,
            "tags",
        ),
        ("/tokens/dataplane", json!({"mesh": "default", "service": "web", "validFor": "1h"}), 422, "service"),
        ("/tokens/user", json!({"name": "", "groups": ["admin"], "validFor": "1h"}), 422, "name"),
        ("/tokens/user", json!({"groups": ["admin"], "validFor": "1h"}), 422, "name"),
    ];
    for (path, body, status, field) in cases {
        let problem = refused(&api, &format!("{path} {body}"), post(path, &body), status).await;
        assert_eq!(problem["errors"][0]["field"], field, "{body}: {problem}");
    }
    refused(&api, "broken", api.request(Method::POST, "/tokens/user").body("{"), 400).await;
}
