//! What becomes of new pods.

use serde_json::json;

use crate::cluster::Cluster;
use crate::review::{image, new_pod, patched, pod};
use crate::webhook::Webhook;

#[tokio::test]
async fn a_pod_gets_its_sidecar_once() {
    let cluster = Cluster::start().await;
    let webhook = Webhook::start(&cluster).await;
    let response = webhook.ask("/mutate-pods", &new_pod("demo", &pod())).await;
    let injected = patched(&pod(), &response);
    assert_eq!(injected["spec"]["initContainers"][0]["name"], "ursa-init");
    assert_eq!(injected["spec"]["initContainers"][1]["name"], "ursa-dp");
    assert_eq!(injected["spec"]["fieldOfANewerRelease"], 1);

    let again = webhook.ask("/mutate-pods", &new_pod("demo", &injected)).await;
    assert_eq!((&again["allowed"], &again["patch"]), (&json!(true), &json!(null)));

    let counted = |result, reason| {
        format!(
            "ursa_webhook_requests_total{{path=\"mutate-pods\",result=\"{result}\",reason=\"{reason}\"}} 1"
        )
    };
    webhook.metric(&counted("patched", "injected")).await;
    webhook.metric(&counted("unchanged", "already-injected")).await;
    webhook.metric("ursa_webhook_request_seconds_count{path=\"mutate-pods\"} 2").await;
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let cluster = Cluster::start().await;
    let webhook = Webhook::start(&cluster).await;
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({"ursamesh.io/exclude-inbound-ports": "http"});
    let response = webhook.ask("/mutate-pods", &new_pod("demo", &pod)).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(403)));
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("pod web-* in namespace demo: the annotation"), "{message}");
    assert!(message.contains("ports are 1 to 65535"), "{message}");
}

#[tokio::test]
async fn what_is_no_new_pod_of_a_mesh_stays_as_it_is() {
    let cluster = Cluster::start().await;
    cluster.put("ursa-system", &json!({"ursamesh.io/sidecar-injection": "enabled"}));
    cluster.put("off", &json!({"ursamesh.io/sidecar-injection": "disabled"}));
    let webhook = Webhook::start(&cluster).await;
    let mut update = new_pod("demo", &pod());
    update["request"]["operation"] = json!("UPDATE");
    let mut debug = new_pod("demo", &pod());
    debug["request"]["subResource"] = json!("ephemeralcontainers");
    for review in [update, debug, new_pod("ursa-system", &pod()), new_pod("off", &pod())] {
        let response = webhook.ask("/mutate-pods", &review).await;
        assert_eq!((&response["allowed"], &response["patch"]), (&json!(true), &json!(null)), "{review}");
    }
}

#[tokio::test]
async fn a_namespace_that_stays_unknown_is_refused_within_the_api_servers_patience() {
    let cluster = Cluster::start().await;
    let webhook = Webhook::start(&cluster).await;
    let start = std::time::Instant::now();
    let response = webhook.ask("/mutate-pods", &new_pod("nowhere", &pod())).await;
    assert!(start.elapsed().as_secs() < 5, "the API server gives up after 5 s");
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(503)));
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("namespace nowhere is not known"), "{message}");
}

/// The API server knows of a namespace, or of its label, before this webhook does.
#[tokio::test]
async fn news_of_a_namespace_are_waited_for() {
    let cluster = Cluster::start().await;
    cluster.put("young", &json!({}));
    let webhook = Webhook::start(&cluster).await;
    for namespace in ["new", "young"] {
        let (pod, late) = (pod(), cluster.clone());
        let review = new_pod(namespace, &pod);
        let (response, ()) = tokio::join!(webhook.ask("/mutate-pods", &review), async move {
            late.put(namespace, &json!({"ursamesh.io/sidecar-injection": "enabled"}));
        });
        assert_eq!(image(&pod, &response), "ursa:1");
    }
}
