//! Secrets are written and never shown, and the authorities that come from them are checked before they count.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Api, mesh, refused, secret};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use reqwest::Method;
use serde_json::{Value, json};
use ursa_api::Mode;
use ursa_store::Store;

const CERTIFICATE: &str = "/meshes/default/secrets/corp-cert";
const KEY: &str = "/meshes/default/secrets/corp-key";
const MESH: &str = "/meshes/default";

async fn api() -> Api {
    let api = Api::start_as(Mode::Global, Store::memory()).await;
    assert_eq!(api.put(MESH, mesh()).await.status(), 201);
    api
}

fn root(path_length: BasicConstraints) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(path_length);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// A mesh whose authority comes from these secrets.
fn provided(cert: &str, key: &str) -> Value {
    let conf = json!({"cert": {"secret": cert}, "key": {"secret": key}});
    let backend = json!({"name": "corp", "type": "Provided", "conf": conf});
    json!({
        "apiVersion": ursa_crds::API_VERSION,
        "kind": "Mesh",
        "spec": {"mtls": {"enabledBackend": "corp", "backends": [backend]}},
    })
}

async fn store_root(api: &Api, (certificate, key): &(String, String)) {
    assert_eq!(api.put(CERTIFICATE, secret(certificate)).await.status(), 201);
    assert_eq!(api.put(KEY, secret(key)).await.status(), 201);
}

/// A PUT of the mesh that must be refused with this field and reason.
async fn mesh_refused(api: &Api, body: &Value, field: &str, reason: &str) {
    let request = api.request(Method::PUT, MESH).body(body.to_string());
    let problem = refused(api, reason, request, 422).await;
    let text = problem["errors"].to_string();
    assert!(text.contains(field) && text.contains(reason), "{field}, {reason}: {problem}");
}

#[tokio::test]
async fn a_secret_is_never_shown() {
    let api = api().await;
    let answer = api.put(CERTIFICATE, secret("hush-hush")).await;
    assert_eq!(answer.status(), 201);
    let mut shown = vec![answer.text().await.unwrap()];
    for path in [CERTIFICATE, "/meshes/default/secrets"] {
        let response = api.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), 200);
        shown.push(response.text().await.unwrap());
    }
    shown.push(api.put(CERTIFICATE, secret("hush-hush-2")).await.text().await.unwrap());
    shown.push(format!("{:?}", common::everything(&api)));
    for text in shown {
        assert!(text.contains("corp-cert") && !text.contains("hush"), "{text}");
    }
    let request = api.request(Method::PUT, KEY).body(secret(""));
    assert!(refused(&api, "empty", request, 422).await.to_string().contains("spec.value"));
}

#[tokio::test]
async fn an_authority_counts_only_if_it_can_do_its_work() {
    let api = api().await;
    let mesh = provided("corp-cert", "corp-key");
    let cert_field = "spec.mtls.backends[0].conf.cert.secret";
    let key_field = "spec.mtls.backends[0].conf.key.secret";
    mesh_refused(&api, &mesh, cert_field, "there is no secret corp-cert").await;
    let (certificate, key) = root(BasicConstraints::Constrained(0));
    store_root(&api, &(certificate, key)).await;
    mesh_refused(&api, &mesh, cert_field, "may not sign intermediates").await;
    let (certificate, key) = root(BasicConstraints::Unconstrained);
    assert_eq!(api.put(CERTIFICATE, secret(&certificate)).await.status(), 200);
    mesh_refused(&api, &mesh, key_field, "is not the key of the certificate").await;
    assert_eq!(api.put(KEY, secret(&key)).await.status(), 200);
    assert_eq!(api.put(MESH, mesh.to_string()).await.status(), 200);

    let mut without = mesh.clone();
    without["spec"]["mtls"]["backends"][0].as_object_mut().unwrap().remove("conf");
    mesh_refused(&api, &without, "spec.mtls.backends[0].conf", "is required").await;
    without["spec"]["mtls"]["backends"][0]["type"] = json!("Builtin");
    mesh_refused(&api, &without, "spec.mtls.backends[0].type", "cannot become another authority").await;
}

#[tokio::test]
async fn what_an_authority_comes_from_stays_while_it_is_in_use() {
    let api = api().await;
    let root = root(BasicConstraints::Unconstrained);
    store_root(&api, &root).await;
    assert_eq!(api.put(MESH, provided("corp-cert", "corp-key").to_string()).await.status(), 200);
    for path in [CERTIFICATE, KEY] {
        let delete = api.request(Method::DELETE, path);
        assert!(refused(&api, path, delete, 409).await.to_string().contains("backend corp"));
        let change = api.request(Method::PUT, path).body(secret("another"));
        assert!(refused(&api, path, change, 409).await.to_string().contains("backend corp"));
    }
    assert_eq!(api.put(CERTIFICATE, secret(&root.0)).await.status(), 200, "no change is none");
    assert_eq!(api.put(MESH, mesh()).await.status(), 200);
    assert_eq!(api.delete(KEY).await, 204);
}

/// What an API server is answered that asks about a change: `None`, or the code and the reason against it.
async fn reviewed(api: &Api, group: &str, object: Value, old: Value) -> Option<(u64, String)> {
    let kind = if old.is_null() { &object } else { &old }["kind"].clone();
    let request = json!({
        "uid": "u", "kind": {"group": group, "version": "v1", "kind": kind}, "namespace": "ursa-system",
        "object": object, "oldObject": old,
    });
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    // Without a token.
    let sent =
        api.client.post(format!("{}/admission", api.base)).body(review.to_string()).send().await.unwrap();
    assert_eq!(sent.status(), 200);
    let answer: Value = sent.json().await.unwrap();
    let response = &answer["response"];
    assert_eq!((&response["uid"], &answer["apiVersion"]), (&json!("u"), &json!("admission.k8s.io/v1")));
    let status = &response["status"];
    let refusal = || (status["code"].as_u64().unwrap(), status["message"].as_str().unwrap().to_owned());
    (!response["allowed"].as_bool().unwrap()).then(refusal)
}

#[tokio::test]
async fn an_api_server_is_told_the_same() {
    let api = api().await;
    let of_kubernetes = |name: &str| {
        let meta = json!({"name": name, "namespace": "ursa-system", "uid": "s", "labels": {"ursamesh.io/mesh": "default"}});
        let data = json!({"value": "YW5vdGhlcg=="});
        json!({"apiVersion": "v1", "kind": "Secret", "type": "ursamesh.io/secret", "metadata": meta, "data": data})
    };
    let mut mesh = provided("corp-cert", "corp-key");
    mesh["metadata"] = json!({"name": "default", "uid": "m", "managedFields": [{"manager": "kubectl"}]});
    let (code, reason) = reviewed(&api, "ursamesh.io", mesh.clone(), mesh.clone()).await.unwrap();
    assert!(code == 422 && reason.contains("there is no secret corp-cert"), "{reason}");

    // The secret may have been written just before.
    let root = root(BasicConstraints::Unconstrained);
    let (answer, ()) =
        tokio::join!(reviewed(&api, "ursamesh.io", mesh.clone(), mesh.clone()), store_root(&api, &root));
    assert_eq!(answer, None);
    assert_eq!(api.put(MESH, provided("corp-cert", "corp-key").to_string()).await.status(), 200);
    for change in [of_kubernetes("corp-cert"), Value::Null] {
        let (code, reason) = reviewed(&api, "", change, of_kubernetes("corp-cert")).await.unwrap();
        assert!(code == 409 && reason.contains("in use by backend corp"), "{reason}");
    }
    assert_eq!(reviewed(&api, "", Value::Null, of_kubernetes("other")).await, None);
    assert_eq!(reviewed(&api, "example.org", mesh.clone(), mesh.clone()).await, None, "somebody else's mesh");

    let zone = Api::start_as(Mode::Zone, Store::memory()).await;
    let asked = zone.client.post(format!("{}/admission", zone.base)).body("{}").send().await.unwrap();
    assert_eq!(asked.status(), 404);
}
