//! What only shows with real connections: writers at the same time, large bodies, odd but valid input, restarts.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Api, mesh, permission};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use ursa_crds::{Kind, ObjectKey};
use ursa_store::{OpenError, Store};

/// Opens a store as soon as the connections of the server before it have ended.
async fn reopen(file: &Path) -> Store {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match Store::open(file) {
            Err(OpenError::Busy { .. }) if Instant::now() < deadline => tokio::task::yield_now().await,
            opened => return opened.unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_mesh_is_not_deleted_under_a_writer() {
    let api = Arc::new(Api::start(Store::memory()).await);
    let mut kept = BTreeSet::new();
    for round in 0..40 {
        assert!(api.put("/meshes/m", mesh()).await.status().is_success());
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let api = api.clone();
                let path = format!("/meshes/m/trafficpermissions/p{writer}");
                tokio::spawn(async move { api.put(&path, permission("a").to_string()).await.status() })
            })
            .collect();
        let deleted = api.delete("/meshes/m").await;
        for writer in writers {
            let status = writer.await.unwrap();
            assert!(
                [StatusCode::CREATED, StatusCode::NOT_FOUND].contains(&status),
                "round {round}: {status}"
            );
        }
        let left = api.store.list_in_mesh(Kind::TrafficPermission, "m");
        let there = api.store.get(&ObjectKey::mesh("m")).is_some();
        assert_eq!(there, deleted == StatusCode::CONFLICT, "round {round}: {deleted}");
        assert!(there || left.is_empty(), "round {round}: {} objects of a mesh that is gone", left.len());
        kept.insert(there);
        for object in left {
            api.store.delete(&object.key(), None).await.unwrap();
        }
    }
    println!("seen: mesh kept {kept:?}");
}

#[tokio::test]
async fn of_writers_with_the_same_condition_one_wins() {
    let api = Arc::new(Api::start(Store::memory()).await);
    api.put("/meshes/m", mesh()).await;
    let path = "/meshes/m/trafficpermissions/p";
    for (header, tag) in [("If-None-Match", "*"), ("If-Match", "\"2\"")] {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let api = api.clone();
                let body = permission(&format!("{tag}{writer}").replace(['"', '*'], "x")).to_string();
                let request = api.request(Method::PUT, path).header(header, tag).body(body);
                tokio::spawn(async move { request.send().await.unwrap().status() })
            })
            .collect();
        let mut won = 0;
        for writer in writers {
            let status = writer.await.unwrap();
            assert!(status.is_success() || status == StatusCode::PRECONDITION_FAILED, "{header}: {status}");
            won += u32::from(status.is_success());
        }
        assert_eq!(won, 1, "{header}");
    }
    assert_eq!(api.store.revision(), 3);
}

#[tokio::test]
async fn pages_hold_what_stays_once_while_others_come_and_go() {
    let api = Arc::new(Api::start(Store::memory()).await);
    api.put("/meshes/m", mesh()).await;
    let stays: Vec<String> = (0..20).map(|number| format!("s{number:02}")).collect();
    for name in &stays {
        api.put(&format!("/meshes/m/trafficpermissions/{name}"), permission("a").to_string()).await;
    }
    let churn = tokio::spawn({
        let api = api.clone();
        async move {
            for number in 0_u64.. {
                let path = format!("/meshes/m/trafficpermissions/s{:02}-x", (number * 7) % 20);
                api.put(&path, permission("b").to_string()).await;
                api.delete(&path).await;
            }
        }
    });
    for limit in 1..6 {
        let mut seen: Vec<String> = Vec::new();
        let mut query = format!("limit={limit}");
        loop {
            let page = api.get(&format!("/meshes/m/trafficpermissions?{query}")).await;
            let names = page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["metadata"]["name"].as_str().unwrap());
            seen.extend(names.map(str::to_owned));
            let Some(next) = page["continue"].as_str() else { break };
            query = format!("limit={limit}&continue={next}");
        }
        assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
        seen.retain(|name| !name.ends_with("-x"));
        assert_eq!(seen, stays);
    }
    churn.abort();
}

#[tokio::test]
async fn a_body_that_is_too_large_is_answered_and_not_just_cut_off() {
    let api = Api::start(Store::memory()).await;
    let large = |size| format!("# {}\n{}", "x".repeat(size), mesh());
    for size in [1024 * 1024, 10_000_000] {
        let response = api.put("/meshes/m", large(size)).await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE, "{size}");
        assert_eq!(response.json::<Value>().await.unwrap()["status"], 413);
        let body = large(size);
        let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        let answer = api.raw("PUT /meshes/m", &["Transfer-Encoding: chunked"], chunk.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{size} in chunks: {answer}");
    }
    assert_eq!(api.store.revision(), 0);
    assert_eq!(api.put("/meshes/m", large(1_000_000)).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn input_that_is_odd_is_taken_or_refused_with_a_problem_document() {
    let api = Api::start(Store::memory()).await;
    api.put("/meshes/m", mesh()).await;
    let path = "/meshes/m/trafficpermissions/p";

    // JSON as other programs write it.
    let tabs = serde_json::to_string_pretty(&permission("a")).unwrap().replace("  ", "\t");
    assert_eq!(api.put(path, tabs).await.status(), StatusCode::CREATED);
    let escaped = permission("a")
        .to_string()
        .replace("\"spec\"", r#""metadata": {"annotations": {"a": "\/\ud83d\ude00\u00e9\n"}}, "spec""#);
    let response = api.put(path, escaped).await;
    assert_eq!(response.status(), StatusCode::OK, "{:?}", response.text().await);
    assert_eq!(api.get(path).await["metadata"]["annotations"]["a"], "/\u{1f600}\u{e9}\n");

    // A few lines that would become gigabytes.
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (last, next) in "abcdefghijklmnop".chars().zip("bcdefghijklmnopq".chars()) {
        let many = vec![format!("*{last}"); 9].join(", ");
        bomb.extend([format!("{next}: &{next} [{many}]\n")]);
    }
    let deep = "[".repeat(200_000);
    for (what, body) in [("bomb", bomb), ("deep", deep)] {
        let response = api.put(path, body).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{what}");
        assert!(response.text().await.unwrap().len() < 2_000, "{what}");
    }

    let answer = api.raw("GET /meshes/m/trafficpermissions/%ff", &[], b"").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("application/problem+json"), "{answer}");
    let answer = api.raw("POST /meshes/m", &["Content-Length: 0"], b"").await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("application/problem+json"), "{answer}");
    assert!(answer.to_lowercase().contains("\nallow: get,head,put,delete"), "{answer}");
    assert_eq!(api.store.revision(), 3);
}

#[tokio::test]
async fn yaml_and_json_answers_say_the_same() {
    let api = Api::start(Store::memory()).await;
    api.put("/meshes/m", mesh()).await;
    let mut object = permission("a");
    let odd =
        ["yes", "1e3", "0x1f", "null", "~", "- a", "a: b", " a ", "a\n\nb\n", "#", "'\"", "2020-01-01", ""];
    object["metadata"] = json!({"annotations": odd.iter().enumerate().map(|(n, text)| (format!("a{n}"), *text)).collect::<BTreeMap<_, _>>()});
    let path = "/meshes/m/trafficpermissions/p";
    assert_eq!(api.put(path, object.to_string()).await.status(), StatusCode::CREATED);
    for path in [path, "/meshes/m/trafficpermissions", "/"] {
        let json = api.get(path).await;
        let response =
            api.request(Method::GET, path).header("Accept", "application/yaml").send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/yaml", "{path}");
        let yaml = response.bytes().await.unwrap();
        assert_eq!(ursa_crds::parse_documents(&yaml).unwrap(), [json], "{path}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.redb");
    let paths = ["/meshes/m", "/meshes/m/trafficpermissions/p"];
    let api = Api::start(Store::open(&file).unwrap()).await;
    assert_eq!(api.put(paths[0], mesh()).await.status(), StatusCode::CREATED);
    let namespaced = permission("a")
        .to_string()
        .replace("\"spec\"", r#""metadata": {"namespace": "ursa-system"}, "spec""#);
    assert_eq!(api.put(paths[1], namespaced).await.status(), StatusCode::CREATED);
    let mut before = Vec::new();
    for path in paths {
        before.push(api.get(path).await);
    }
    drop(api);
    let api = Api::start(reopen(&file).await).await;
    for (path, before) in paths.into_iter().zip(&before) {
        let response = api.request(Method::GET, path).send().await.unwrap();
        let version = before["metadata"]["resourceVersion"].as_str().unwrap();
        assert_eq!(response.headers()["etag"], format!("\"{version}\""));
        assert_eq!(&response.json::<Value>().await.unwrap(), before);
    }
}
