//! Files that change under the webhook.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::cluster::Cluster;
use crate::folder::{Certificates, settings};
use crate::review::{image, new_pod, pod};
use crate::wait::eventually;
use crate::webhook::{Webhook, client};

#[tokio::test]
async fn a_certificate_is_swapped_without_a_failed_request() {
    let cluster = Cluster::start().await;
    let (old, new) = (Certificates::new(), Certificates::new());
    let mut webhook = Webhook::start_with(&cluster, &old, Some(&settings("ursa:1"))).await;
    webhook.ready().await;
    webhook.client = client(&[&old, &new]);
    let (webhook, review, swapped) = (&webhook, new_pod("demo", &pod()), AtomicBool::new(false));
    let requests = async {
        let mut answered = 0;
        while !swapped.load(Ordering::Relaxed) || answered == 0 {
            assert_eq!(webhook.ask("/mutate-pods", &review).await["allowed"], true);
            answered += 1;
        }
    };
    let swap = async {
        // Halves of a change do not go together, and are not served.
        webhook.swap(&Certificates { chain: new.chain.clone(), ..Certificates::new() });
        webhook.metric("ursa_webhook_file_in_force{file=\"certificate\"} 0").await;
        webhook.swap(&new);
        let trusts_new = client(&[&new]);
        let url = format!("https://{}/validate", webhook.address);
        eventually("the new certificate", async || trusts_new.post(&url).send().await.ok()).await;
        swapped.store(true, Ordering::Relaxed);
    };
    tokio::join!(requests, swap);
    let metrics = webhook.diagnostics("/metrics").await.1;
    let expiry = metrics
        .lines()
        .find_map(|line| line.strip_prefix("ursa_webhook_certificate_expiry_timestamp_seconds "));
    assert!(expiry.unwrap().parse::<i64>().unwrap() > 1_700_000_000, "{metrics}");
}

#[tokio::test]
async fn bad_settings_leave_the_last_good_ones_in_force() {
    let cluster = Cluster::start().await;
    let webhook = Webhook::start(&cluster).await;
    let (pod, review) = (pod(), new_pod("demo", &pod()));
    for bad in ["image: [", "image: ursa:2\n", &format!("{}unknown: 1\n", settings("ursa:2")), &settings("")]
    {
        webhook.set(bad);
        webhook.metric("ursa_webhook_file_in_force{file=\"settings\"} 0").await;
        assert_eq!(image(&pod, &webhook.ask("/mutate-pods", &review).await), "ursa:1");
        webhook.set(&settings("ursa:1"));
        webhook.metric("ursa_webhook_file_in_force{file=\"settings\"} 1").await;
    }
    assert!(webhook.log().contains("image: must name the image"), "{}", webhook.log());
    webhook.set(&settings("ursa:3"));
    let new = async || (image(&pod, &webhook.ask("/mutate-pods", &review).await) == "ursa:3").then_some(());
    eventually("the new settings", new).await;
}
