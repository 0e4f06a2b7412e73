//! The OpenAPI document, made from the one list of kinds. Source: <https://spec.openapis.org/oas/v3.1.0>.

use axum::Json;
use serde_json::{Map, Value, json};
use ursa_crds::{API_VERSION, KINDS, KindInfo, Scope};

use crate::standing::is_enforced;

/// `GET /openapi.json`.
pub(crate) async fn get() -> Json<Value> {
    Json(document())
}

/// The document; keys and kinds in order.
pub fn document() -> Value {
    let mut paths = Map::new();
    for info in KINDS {
        let (list, one) = match info.scope {
            Scope::Global => (format!("/{}", info.plural), format!("/{}/{{name}}", info.plural)),
            Scope::Mesh => (
                format!("/meshes/{{mesh}}/{}", info.plural),
                format!("/meshes/{{mesh}}/{}/{{name}}", info.plural),
            ),
        };
        paths.insert(list.clone(), json!({"parameters": parameters(&list), "get": list_operation(info)}));
        paths.insert(
            one.clone(),
            json!({
                "parameters": parameters(&one),
                "get": read_operation(info),
                "put": write_operation(info),
                "delete": delete_operation(info),
            }),
        );
    }
    for (path, method, operation, summary, body) in OTHERS {
        let mut entry = json!({"operationId": operation, "summary": summary, "responses": {
            "default": {"$ref": "#/components/responses/Problem"},
            (if body.is_some() { "201" } else { "200" }): {"description": "Done", "content": {"application/json": {}}},
        }});
        if let Some(body) = body {
            let schema = json!({"$ref": format!("#/components/schemas/{body}")});
            entry["requestBody"] =
                json!({"required": true, "content": {"application/json": {"schema": schema}}});
        }
        paths.insert((*path).to_owned(), json!({"parameters": parameters(path), (*method): entry}));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Ursa",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Resources of the mesh. Bodies may be JSON or YAML. Every path needs a user token of group admin.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "responses": {"Problem": {
                "description": "Refused; nothing was changed (RFC 9457)",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }},
            "schemas": schemas(),
        },
    })
}

/// Paths that are no resource: (path, method, operation, summary, schema of the body).
const OTHERS: &[(&str, &str, &str, &str, Option<&str>)] = &[
    ("/", "get", "info", "Version, mode, zone and instance of the control plane", None),
    (
        "/meshes/{mesh}/services",
        "get",
        "listServices",
        "Services of the mesh with their instances by zone",
        None,
    ),
    (
        "/meshes/{mesh}/dataplanes+insights",
        "get",
        "listInsights",
        "Dataplanes of the zone with what is known of their proxies",
        None,
    ),
    ("/meshes/{mesh}/dataplanes/{name}/config", "get", "dataplaneConfig", "What the proxy is to do", None),
    (
        "/meshes/{mesh}/dataplanes/{name}/policies",
        "get",
        "dataplanePolicies",
        "Which policies are behind it",
        None,
    ),
    (
        "/meshes/{mesh}/dataplanes/{name}/clusters",
        "get",
        "dataplaneClusters",
        "Where its destinations are",
        None,
    ),
    (
        "/meshes/{mesh}/dataplanes/{name}/insight",
        "get",
        "dataplaneInsight",
        "What is known of the proxy",
        None,
    ),
    (
        "/meshes/{mesh}/dataplanes/{name}/size",
        "get",
        "dataplaneSize",
        "How big the proxy's configuration is by the services that it may call, and why it has them",
        None,
    ),
    (
        "/zones+state",
        "get",
        "listZoneStates",
        "At global: each zone's state, and for how long it has not had everything",
        None,
    ),
    (
        "/adoption",
        "post",
        "adopt",
        "At global: zones follow this store from now on, in place of the one that they knew",
        None,
    ),
    ("/backup", "get", "takeBackup", "A global control plane with its keys, for its owner only", None),
    (
        "/restore",
        "post",
        "restoreBackup",
        "Makes an empty global control plane the one of the backup, which zones then follow",
        Some("Backup"),
    ),
    ("/tokens/dataplane", "post", "issueDataplaneToken", "Issues a token for agents", Some("DataplaneToken")),
    (
        "/tokens/ingress",
        "post",
        "issueIngressToken",
        "Issues a token for a zone ingress",
        Some("IngressToken"),
    ),
    (
        "/tokens/zone",
        "post",
        "issueZoneToken",
        "Issues a token for a zone's control plane",
        Some("ZoneToken"),
    ),
    (
        "/tokens/dataplane/revoke",
        "post",
        "revokeDataplaneToken",
        "Revokes a data-plane token in every zone of its mesh",
        Some("DataplaneTokenRevocation"),
    ),
    (
        "/tokens/zone/revoke",
        "post",
        "revokeZoneTokens",
        "Revokes every token that was issued for a zone so far",
        Some("ZoneTokenRevocation"),
    ),
    ("/tokens/user", "post", "issueUserToken", "Issues a token for a user of this API", Some("UserToken")),
];

fn parameters(path: &str) -> Value {
    let names = ["mesh", "name"].into_iter().filter(|name| path.contains(&format!("{{{name}}}")));
    let parameter =
        |name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    Value::Array(names.map(parameter).collect())
}

fn reference(info: &KindInfo) -> Value {
    json!({"$ref": format!("#/components/schemas/{}", info.name)})
}

fn content(schema: &Value) -> Value {
    json!({"application/json": {"schema": schema}, "application/yaml": {"schema": schema}})
}

fn answers(codes: &[(&str, &str)], schema: Option<&Value>) -> Value {
    let mut responses = Map::new();
    for (code, description) in codes {
        let mut response = json!({"description": description});
        if let Some(schema) = schema {
            response["content"] = content(schema);
        }
        responses.insert((*code).to_owned(), response);
    }
    responses.insert("default".into(), json!({"$ref": "#/components/responses/Problem"}));
    Value::Object(responses)
}

fn list_operation(info: &KindInfo) -> Value {
    let list = json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "items": {"type": "array", "items": reference(info)},
            "continue": {"type": "string", "description": "Pass it on for the next page; absent on the last."},
        },
    });
    json!({
        "operationId": format!("list{}", info.name),
        "parameters": [
            {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1}},
            {"name": "continue", "in": "query", "schema": {"type": "string"}},
        ],
        "responses": answers(&[("200", "A page, ordered by name")], Some(&list)),
    })
}

fn read_operation(info: &KindInfo) -> Value {
    json!({
        "operationId": format!("get{}", info.name),
        "responses": answers(&[("200", "The resource")], Some(&reference(info))),
    })
}

fn write_operation(info: &KindInfo) -> Value {
    let if_match = json!({
        "name": "If-Match", "in": "header", "schema": {"type": "string"},
        "description": "The ETag that the resource must have; otherwise 412.",
    });
    json!({
        "operationId": format!("put{}", info.name),
        "parameters": [if_match],
        "requestBody": {"required": true, "content": content(&reference(info))},
        "responses": answers(&[("200", "Updated"), ("201", "Created")], Some(&reference(info))),
    })
}

fn delete_operation(info: &KindInfo) -> Value {
    json!({
        "operationId": format!("delete{}", info.name),
        "responses": answers(&[("204", "Deleted")], None),
    })
}

fn schemas() -> Value {
    let mut schemas = Map::new();
    for info in KINDS {
        schemas.insert(info.name.to_owned(), resource_schema(info));
    }
    let text = json!({"type": "string"});
    let texts = json!({"type": "array", "items": text});
    let tags = json!({"type": "object", "additionalProperties": text});
    let token = |properties: Value, required: &[&str]| {
        let mut properties = properties;
        properties["validFor"] = json!({"type": "string", "examples": ["24h"]});
        let required: Vec<&str> = required.iter().copied().chain(["validFor"]).collect();
        json!({"type": "object", "additionalProperties": false, "properties": properties, "required": required})
    };
    let dataplane = json!({"mesh": text, "zone": text, "name": text, "services": texts, "tags": tags});
    schemas.insert("DataplaneToken".into(), token(dataplane, &[]));
    schemas.insert("IngressToken".into(), token(json!({"name": text}), &["name"]));
    schemas.insert("ZoneToken".into(), token(json!({"zone": text}), &["zone"]));
    let revocation = |properties: Value, required: &[&str]| json!({"type": "object", "additionalProperties": false, "properties": properties, "required": required});
    let dataplane = json!({"mesh": text, "token": text, "id": text, "reason": text});
    schemas.insert("DataplaneTokenRevocation".into(), revocation(dataplane, &[]));
    schemas.insert("ZoneTokenRevocation".into(), revocation(json!({"zone": text}), &["zone"]));
    schemas.insert("UserToken".into(), token(json!({"name": text, "groups": texts}), &["name"]));
    schemas.insert("Backup".into(), backup_schema(&text));
    schemas.insert("Problem".into(), problem_schema());
    Value::Object(schemas)
}

fn backup_schema(text: &Value) -> Value {
    json!({
        "type": "object",
        "description": "What GET /backup gave, unchanged.",
        "properties": {
            "format": text, "version": text, "createdAt": text, "checksum": text, "content": {"type": "object"},
        },
        "required": ["format", "checksum", "content"],
    })
}

fn problem_schema() -> Value {
    let text = json!({"type": "string"});
    let error = json!({"type": "object", "properties": {"field": text, "message": text}});
    json!({"type": "object", "properties": {
        "type": text,
        "title": text,
        "status": {"type": "integer"},
        "detail": text,
        "errors": {"type": "array", "items": error},
    }})
}

/// The schema of the custom resource definition, with what every resource has.
fn resource_schema(info: &KindInfo) -> Value {
    let definition = serde_json::to_value((info.crd)()).expect("a definition serializes");
    let properties = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let spec = &properties["spec"];
    let mut schema = json!({
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": info.name},
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": spec,
        },
    });
    if is_enforced(info.kind) {
        let text = json!({"type": "string"});
        let fields = json!({
            "type": text, "status": {"enum": ["True", "False", "Unknown"]}, "reason": text, "message": text,
            "observedGeneration": {"type": "integer"},
        });
        schema["properties"]["status"] = json!({
            "type": "object", "readOnly": true,
            "description": "As it is now: the conditions `Programmed` and `ResolvedRefs`, and how far each zone is.",
            "properties": {
                "conditions": {"type": "array", "items": {"type": "object", "properties": fields}},
                "zones": properties["status"]["properties"]["zones"],
            },
        });
    }
    schema
}
