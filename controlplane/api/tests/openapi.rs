//! The OpenAPI document says what the API does.

mod common;

use common::Api;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use ursa_store::Store;

/// `ursa-cp` adds these where it is global, and the end-to-end tests call them there.
const OF_GLOBAL: [&str; 2] = ["/adoption", "/zones+state"];

#[tokio::test]
async fn every_operation_of_the_document_exists() {
    let api = Api::start(Store::memory()).await;
    let document = api.get("/openapi.json").await;
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 20, "{}", paths.len());
    for (path, operations) in paths.iter().filter(|(path, _)| !OF_GLOBAL.contains(&path.as_str())) {
        for method in operations.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let url = path.replace("{mesh}", "default").replace("{name}", "some");
            let method: Method = method.to_uppercase().parse().unwrap();
            let response = api.request(method.clone(), &url).send().await.unwrap();
            let status = response.status();
            assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            let body: Value = response.json().await.unwrap_or_default();
            let detail = body["detail"].as_str().unwrap_or_default();
            assert!(
                !detail.contains("nothing under this path") && !detail.contains("no kind"),
                "{method} {path}: {detail}"
            );
        }
    }
}

#[tokio::test]
async fn every_reference_of_the_document_leads_somewhere() {
    let document = ursa_api::openapi_document();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("references stay in the document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            references.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| collect(field, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}
