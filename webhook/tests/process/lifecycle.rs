//! From the start to the end.

use reqwest::StatusCode;

use crate::cluster::Cluster;
use crate::folder::{Certificates, settings};
use crate::review::{image, new_pod, pod};
use crate::wait::eventually;
use crate::webhook::Webhook;

#[tokio::test]
async fn it_is_ready_once_it_knows_all_that_it_needs() {
    let cluster = Cluster::start().await;
    cluster.set_broken(true);
    let webhook = Webhook::start_with(&cluster, &Certificates::new(), None).await;
    let says = async |what: &str| {
        let said = async || {
            (webhook.diagnostics("/readyz").await == (StatusCode::SERVICE_UNAVAILABLE, what.to_owned()))
                .then_some(())
        };
        eventually(what, said).await;
    };
    says("not ready: no settings were read yet, not all namespaces are known yet\n").await;
    assert_eq!(webhook.diagnostics("/healthz").await.0, StatusCode::OK);
    cluster.set_broken(false);
    says("not ready: no settings were read yet\n").await;
    let refused = webhook.ask("/mutate-pods", &new_pod("demo", &pod())).await;
    assert_eq!(
        refused["status"]["code"], 503,
        "without settings no pod gets in without its sidecar: {refused}"
    );
    webhook.set(&settings("ursa:1"));
    webhook.ready().await;
}

#[tokio::test]
async fn it_serves_on_while_it_leaves_its_service() {
    let cluster = Cluster::start().await;
    let mut webhook = Webhook::start(&cluster).await;
    webhook.terminate();
    let leaving =
        async || (webhook.diagnostics("/readyz").await.0 == StatusCode::SERVICE_UNAVAILABLE).then_some(());
    eventually("not ready", leaving).await;
    assert_eq!(image(&pod(), &webhook.ask("/mutate-pods", &new_pod("demo", &pod())).await), "ursa:1");
    assert!(webhook.ended().await.success());
}
