//! What nobody should send, and what must not end the webhook.

use reqwest::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cluster::Cluster;
use crate::review::{image, new_pod, pod};
use crate::webhook::Webhook;

#[tokio::test]
async fn too_large_and_unreadable_bodies_are_told() {
    let cluster = Cluster::start().await;
    let webhook = Webhook::start(&cluster).await;
    for path in ["/mutate-pods", "/validate"] {
        let large = webhook.send(path, vec![b' '; 3 * 1024 * 1024 + 1]).await;
        assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let deep = format!("{{\"request\":{{\"object\":{}", "[".repeat(2 * 1024 * 1024));
        let null = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}"#;
        for garbage in ["", "null", "\u{0}\u{1}", "{\"apiVersion\":1}", null, &deep] {
            assert_eq!(webhook.send(path, garbage.to_owned()).await.status(), StatusCode::BAD_REQUEST);
        }
        let odd = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","kind":{"kind":"Pod"},"resource":{"resource":"pods"},"namespace":"demo","operation":"CREATE","object":[{"spec":3}]}}"#;
        assert_eq!(webhook.send(path, odd).await.status(), StatusCode::OK);
    }
    still_serves(&webhook).await;
}

#[tokio::test]
async fn what_is_no_tls_is_closed_and_holds_nobody_up() {
    let cluster = Cluster::start().await;
    let webhook = Webhook::start(&cluster).await;
    // One that says nothing stays open meanwhile.
    let _silent = TcpStream::connect(&webhook.address).await.unwrap();
    let mut plain = TcpStream::connect(&webhook.address).await.unwrap();
    plain.write_all(b"POST /mutate-pods HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "nothing is answered in the clear");
    still_serves(&webhook).await;
}

async fn still_serves(webhook: &Webhook) {
    assert_eq!(image(&pod(), &webhook.ask("/mutate-pods", &new_pod("demo", &pod())).await), "ursa:1");
}
