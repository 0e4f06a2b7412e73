//! Resources are judged with the paths of their fields.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::wait::eventually;
use crate::webhook::Webhook;

fn route(weight: i64) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "kind": {"group": "ursamesh.io", "version": "v1alpha1", "kind": "TrafficRoute"},
            "resource": {"group": "ursamesh.io", "version": "v1alpha1", "resource": "trafficroutes"},
            "name": "half", "namespace": "ursa-system", "operation": "CREATE",
            "object": {
                "apiVersion": "ursamesh.io/v1alpha1", "kind": "TrafficRoute",
                "metadata": {"name": "half", "namespace": "ursa-system", "managedFields": []},
                "spec": {
                    "sources": [{"match": {"ursamesh.io/service": "a"}}],
                    "destinations": [{"match": {"ursamesh.io/service": "b"}}],
                    "conf": {"split": [{"weight": weight, "destination": {"ursamesh.io/service": "b"}}]},
                },
            },
        },
    })
}

#[tokio::test]
async fn a_resource_is_judged_as_the_rest_api_judges_it() {
    let cluster = Cluster::start().await;
    let webhook = Webhook::start(&cluster).await;
    let good = webhook.ask("/validate", &route(1)).await;
    assert_eq!(good["allowed"], true, "{good}");

    let bad = webhook.ask("/validate", &route(-1)).await;
    assert_eq!((&bad["allowed"], &bad["status"]["code"]), (&json!(false), &json!(422)));
    assert_eq!(bad["status"]["details"]["causes"][0]["field"], "spec.conf.split[0].weight", "{bad}");
    let message = bad["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("TrafficRoute half: spec.conf.split[0].weight: "), "{message}");
}

#[tokio::test]
async fn a_source_is_by_tags_that_the_mesh_declares_as_soon_as_it_does() {
    let cluster = Cluster::start().await;
    let webhook = Webhook::start(&cluster).await;
    let mut by_team = route(1);
    let request = &mut by_team["request"];
    request["kind"]["kind"] = json!("TrafficPermission");
    request["resource"]["resource"] = json!("trafficpermissions");
    request["object"]["kind"] = json!("TrafficPermission");
    request["object"]["spec"] = json!({
        "sources": [{"match": {"team": "payments"}}],
        "destinations": [{"match": {"ursamesh.io/service": "b"}}],
    });
    cluster.put_mesh("default", &json!({}));
    let refused = webhook.ask("/validate", &by_team).await;
    assert_eq!(refused["status"]["code"], 422, "{refused}");
    assert_eq!(refused["status"]["details"]["causes"][0]["field"], "spec.sources[0].match");
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(message.contains("Mesh default spec.identityTags: [{key: team}]"), "{message}");

    // Asked at once: the news of the mesh is waited for.
    cluster.put_mesh("default", &json!({"identityTags": [{"key": "team"}]}));
    let taken = webhook.ask("/validate", &by_team).await;
    assert_eq!(taken["allowed"], true, "{taken}");

    // Nothing that was taken stands in the way of taking a tag back; then the same is refused again.
    cluster.put_mesh("default", &json!({"identityTags": [{"key": "tier"}]}));
    let again = async || webhook.ask("/validate", &by_team).await["allowed"] == false;
    eventually("the tag is taken back", async || again().await.then_some(())).await;
}
