//! Whom ursactl talks to, and what it tells them.
#![allow(clippy::unwrap_used, reason = "a failed set-up fails the test")]

mod common;

use common::World;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Answers one request on a loopback port; gives the URL, and the request's head.
async fn answering(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(head).unwrap()
    });
    (url, served)
}

#[tokio::test]
async fn tls_is_verified_against_the_authorities_that_are_named() {
    let world = World::start_tls();
    let (ca, token) = (world.file("ca.pem", &world.ca), world.path("token"));
    let environment = [("URSA_API", world.url.as_str()), ("URSA_TOKEN_FILE", token.to_str().unwrap())];
    let get = ["get", "meshes", "--ca-file", &ca];
    world.run_with(&get, &environment, "").await.ok();
    // The right authority, and a name that the certificate does not have.
    let by_address = format!("https://{}", world.address);
    let error =
        world.run_with(&[&get[..], &["--api", &by_address]].concat(), &environment, "").await.failed(1);
    assert!(error.contains("certificate not valid for name"), "{error}");
    let error = world.run_with(&get[..2], &environment, "").await.failed(1);
    assert!(error.contains("--ca-file"), "the system does not know the authority: {error}");
    let stranger = world.file("stranger.pem", &World::start_tls().ca);
    let error = world.run_with(&["get", "meshes", "--ca-file", &stranger], &environment, "").await.failed(1);
    assert!(error.contains("certificate") && error.contains("--ca-file"), "{error}");
    for (name, text) in
        [("empty.pem", ""), ("bad.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")]
    {
        let file = world.file(name, text);
        let error = world.run_with(&["get", "meshes", "--ca-file", &file], &environment, "").await.failed(1);
        assert!(error.contains(name), "{error}");
    }
}

#[tokio::test]
async fn plain_http_to_another_machine_is_refused_before_anything_is_read() {
    let world = World::start().await;
    let arguments = ["get", "meshes", "--api", "http://192.0.2.1:5681", "--token-file", "missing"];
    let error = world.run_with(&arguments, &[], "").await.failed(2);
    assert!(error.contains("loopback") && error.contains("https"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[tokio::test]
async fn localhost_is_this_machine() {
    let world = World::start().await;
    let url = format!("http://localhost:{}/", world.address.port());
    world.run(&["get", "meshes", "--api", &url]).await.ok();
}

#[tokio::test]
async fn a_token_that_is_missing_wrong_or_not_enough_is_said_so() {
    let world = World::start().await;
    let api = [("URSA_API", world.url.as_str())];
    let error = world.run_with(&["get", "meshes"], &api, "").await.failed(2);
    assert!(error.contains("--token-file"), "{error}");
    let run = async |name: &str, text: &str, code: i32| {
        let file = world.file(name, text);
        let error = world.run_with(&["get", "meshes", "--token-file", &file], &api, "").await.failed(code);
        assert!(!error.contains("s3cret"), "{error}");
        error
    };
    assert!(run("foreign", "s3cret", 1).await.contains("401"));
    assert!(run("user", &world.token(&["dev"]), 1).await.contains("not in the group admin (403)"));
    for (name, text) in [("none", " \n"), ("two", "s3cret s3cret"), ("lines", "s3cret\r\nX: y")] {
        let error = run(name, text, 1).await;
        assert!(error.contains("does not hold one token") && error.contains(name), "{error}");
    }
    let error = world.run(&["get", "meshes", "--token-file", "/no/such"]).await.failed(1);
    assert!(error.contains("/no/such"), "{error}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let world = World::start().await;
    let (other, other_served) = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    let answer =
        format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {other}/meshes\r\ncontent-length: 0\r\n\r\n");
    let (url, served) = answering(answer.leak()).await;
    let error = world.run(&["get", "meshes", "--api", &url]).await.failed(1);
    assert!(error.contains("307"), "{error}");
    assert!(served.await.unwrap().to_lowercase().contains("authorization: bearer "));
    assert!(!other_served.is_finished(), "nobody came");
    other_served.abort();
}

#[tokio::test]
async fn what_is_no_control_plane_is_named() {
    let world = World::start().await;
    let (url, _served) = answering("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>").await;
    let error = world.run(&["get", "meshes", "--api", &url]).await.failed(1);
    assert!(error.contains("JSON") && error.contains(&url), "{error}");
    let (url, _served) = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    assert!(world.run(&["get", "meshes", "--api", &url]).await.failed(1).contains("list"));
    let (url, _served) = answering("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
    assert!(world.run(&["get", "meshes", "--api", &url]).await.failed(1).contains("502 Bad Gateway"));
    // Nobody listens at this port.
    let url = "http://127.0.0.1:1";
    let error = world.run(&["get", "meshes", "--api", url]).await.failed(1);
    assert!(error.contains("cannot reach") && error.contains(url), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[tokio::test]
async fn what_the_server_says_does_not_command_the_terminal() {
    let world = World::start().await;
    let answer = "HTTP/1.1 409 Conflict\r\ncontent-length: 29\r\n\r\n{\"detail\":\"\\u001b[2J\\u0007x\"} ";
    let (url, _served) = answering(answer).await;
    let error = world.run(&["get", "meshes", "--api", &url]).await.failed(1);
    assert_eq!(error, "error: \\u{1b}[2J\\u{7}x (409)\n");
}
