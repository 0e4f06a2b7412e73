//! The webhook of somebody else, which adds a container with a probe to every pod that has none of its name.

use std::net::{IpAddr, SocketAddr};

use axum::routing::post;
use axum::{Json, Router};
use axum_server::tls_rustls::RustlsConfig;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::folder::Certificates;

/// The name of the container.
pub(crate) const LATE: &str = "late";

/// Serves `/add` at this address until the test ends.
pub(crate) async fn start(host: IpAddr, certificates: &Certificates) -> SocketAddr {
    let listener = std::net::TcpListener::bind((host, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let (chain, key) = (certificates.chain.clone().into(), certificates.key.clone().into());
    let config = RustlsConfig::from_pem(chain, key).await.unwrap();
    let server = axum_server::from_tcp_rustls(listener, config).unwrap();
    let router = Router::new().route("/add", post(add));
    tokio::spawn(async move { server.serve(router.into_make_service()).await.unwrap() });
    address
}

async fn add(Json(review): Json<Value>) -> Json<Value> {
    let request = &review["request"];
    let containers = request["object"]["spec"]["containers"].as_array().unwrap();
    let mut response = json!({"uid": request["uid"], "allowed": true});
    if !containers.iter().any(|container| container["name"] == LATE) {
        let probe = json!({"httpGet": {"port": 9090, "path": "/alive"}, "periodSeconds": 7});
        let container = json!({"name": LATE, "image": "late:1", "livenessProbe": probe});
        let patch = json!([{"op": "add", "path": "/spec/containers/0", "value": container}]);
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(ByteString(patch.to_string().into_bytes()));
    }
    Json(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
}
