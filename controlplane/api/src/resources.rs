//! Resources of every kind: `/meshes/…` and the paths that follow from a kind's scope.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use ursa_crds::{DecodeError, KINDS, Kind, Object, ObjectKey, Scope};
use ursa_store::{Outcome, StoreError};

use crate::list::{Paging, page};
use crate::problem::Problem;
use crate::{ApiState, body};

type Answer = Result<Response, Problem>;
type ListQuery = Result<Query<Paging>, QueryRejection>;
type Body = Result<Bytes, BytesRejection>;

pub(crate) async fn list_global(
    State(state): State<ApiState>,
    Path(plural): Path<String>,
    query: ListQuery,
    headers: HeaderMap,
) -> Answer {
    list(&state, kind(&plural, Scope::Global)?, "", query, &headers)
}

pub(crate) async fn list_in_mesh(
    State(state): State<ApiState>,
    Path((mesh, plural)): Path<(String, String)>,
    query: ListQuery,
    headers: HeaderMap,
) -> Answer {
    let kind = kind(&plural, Scope::Mesh)?;
    known_mesh(&state, &mesh)?;
    list(&state, kind, &mesh, query, &headers)
}

pub(crate) async fn get_global(
    State(state): State<ApiState>,
    Path((plural, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    get(&state, &key(kind(&plural, Scope::Global)?, "", &name), &headers)
}

pub(crate) async fn get_in_mesh(
    State(state): State<ApiState>,
    Path((mesh, plural, name)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Answer {
    get(&state, &key(kind(&plural, Scope::Mesh)?, &mesh, &name), &headers)
}

pub(crate) async fn put_global(
    State(state): State<ApiState>,
    Path((plural, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    put(&state, &key(kind(&plural, Scope::Global)?, "", &name), &headers, body).await
}

pub(crate) async fn put_in_mesh(
    State(state): State<ApiState>,
    Path((mesh, plural, name)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let kind = kind(&plural, Scope::Mesh)?;
    known_mesh(&state, &mesh)?;
    put(&state, &key(kind, &mesh, &name), &headers, body).await
}

pub(crate) async fn delete_global(
    State(state): State<ApiState>,
    Path((plural, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let key = key(kind(&plural, Scope::Global)?, "", &name);
    if key.kind == Kind::Mesh {
        empty_mesh(&state, &name)?;
    }
    delete(&state, &key, &headers).await
}

pub(crate) async fn delete_in_mesh(
    State(state): State<ApiState>,
    Path((mesh, plural, name)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Answer {
    delete(&state, &key(kind(&plural, Scope::Mesh)?, &mesh, &name), &headers).await
}

fn kind(plural: &str, scope: Scope) -> Result<Kind, Problem> {
    let known = Kind::by_plural(plural).filter(|kind| kind.info().scope == scope);
    known.ok_or_else(|| {
        Problem::not_found(format!("{plural:?} is no kind of resource that is found under this path"))
    })
}

fn key(kind: Kind, mesh: &str, name: &str) -> ObjectKey {
    ObjectKey { kind, mesh: mesh.to_owned(), namespace: String::new(), name: name.to_owned() }
}

fn known_mesh(state: &ApiState, mesh: &str) -> Result<(), Problem> {
    let known = state.store.get(&ObjectKey::mesh(mesh));
    known.map(drop).ok_or_else(|| Problem::not_found(format!("mesh {mesh} does not exist")))
}

/// A mesh that still holds something stays: whoever deletes it would delete more than was said.
fn empty_mesh(state: &ApiState, mesh: &str) -> Result<(), Problem> {
    let held: Vec<String> = KINDS
        .iter()
        .filter(|info| info.scope == Scope::Mesh)
        .map(|info| (info.plural, state.store.list_in_mesh(info.kind, mesh).len()))
        .filter(|(_, count)| *count > 0)
        .map(|(plural, count)| format!("{count} {plural}"))
        .collect();
    if held.is_empty() {
        return Ok(());
    }
    Err(Problem::conflict(format!("mesh {mesh} still holds {}; delete them first", held.join(", "))))
}

fn list(state: &ApiState, kind: Kind, mesh: &str, query: ListQuery, headers: &HeaderMap) -> Answer {
    let Query(paging) = query.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let objects = state.store.list_in_mesh(kind, mesh);
    let value = page(objects.iter().map(AsRef::as_ref), &paging)?;
    Ok(body::answer(StatusCode::OK, headers, &value))
}

fn get(state: &ApiState, key: &ObjectKey, headers: &HeaderMap) -> Answer {
    let object = state.store.get(key).ok_or_else(|| Problem::not_found(format!("{key} does not exist")))?;
    Ok(resource(StatusCode::OK, headers, &object))
}

async fn put(state: &ApiState, key: &ObjectKey, headers: &HeaderMap, body: Body) -> Answer {
    let bytes = body::read(body)?;
    let if_match = if_match(state, key, headers)?;
    let object = decode(&bytes, key)?;
    let problems = ursa_policy::validate(&object);
    if !problems.is_empty() {
        return Err(Problem::invalid(problems));
    }
    let in_body = (object.meta.resource_version > 0).then_some(object.meta.resource_version);
    let written = state.store.put(object, if_match.or(in_body)).await.map_err(|error| match error {
        StoreError::Conflict { .. } if if_match.is_some() => Problem::precondition_failed(error.to_string()),
        error => error.into(),
    })?;
    let status = if written.outcome == Outcome::Created { StatusCode::CREATED } else { StatusCode::OK };
    tracing::info!(%key, outcome = ?written.outcome, "put");
    Ok(resource(status, headers, &written.object))
}

async fn delete(state: &ApiState, key: &ObjectKey, headers: &HeaderMap) -> Answer {
    let if_match = if_match(state, key, headers)?;
    state.store.delete(key, if_match).await.map_err(|error| match error {
        StoreError::Conflict { .. } => Problem::precondition_failed(error.to_string()),
        error => error.into(),
    })?;
    tracing::info!(%key, "deleted");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The version in `If-Match`, for a resource that exists (RFC 9110 §13.1.1).
fn if_match(state: &ApiState, key: &ObjectKey, headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let current = state.store.get(key).map(|object| object.meta.resource_version);
    let version = match value.to_str().ok().map(str::trim) {
        Some("*") => current,
        Some(tag) => {
            tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).and_then(|tag| tag.parse().ok())
        }
        None => None,
    };
    match version {
        Some(version) if current.is_some() => Ok(Some(version)),
        _ => Err(Problem::precondition_failed(format!("{key} is not what If-Match says"))),
    }
}

/// The object in a body, completed from the path; what contradicts the path is refused.
fn decode(bytes: &[u8], key: &ObjectKey) -> Result<Object, Problem> {
    let mut documents = ursa_crds::parse_documents(bytes)?;
    let (Some(mut document), true) = (documents.pop(), documents.is_empty()) else {
        return Err(Problem::bad_request("the body must hold exactly one document"));
    };
    let info = key.kind.info();
    complete(&mut document, &["kind"], info.name)?;
    complete(&mut document, &["metadata", "name"], &key.name)?;
    if info.scope == Scope::Mesh {
        complete(&mut document, &["spec", "mesh"], &key.mesh)?;
    }
    let object =
        ursa_crds::decode_value(&document).map_err(|problem| Problem::from(DecodeError::Invalid(problem)))?;
    if !object.meta.namespace.is_empty() {
        return Err(Problem::contradiction(
            "metadata.namespace",
            "there are no namespaces outside Kubernetes".into(),
        ));
    }
    Ok(object)
}

/// Sets a field that is missing to what the path says; one that says something else is a contradiction. A field of a
/// wrong type is left to the decoder.
fn complete(document: &mut Value, path: &[&str], expected: &str) -> Result<(), Problem> {
    let mut value = &mut *document;
    for part in path {
        if value.is_null() {
            *value = json!({});
        }
        let Value::Object(fields) = value else { return Ok(()) };
        value = fields.entry(*part).or_insert(Value::Null);
    }
    match value {
        Value::Null => *value = json!(expected),
        Value::String(actual) if actual != expected => {
            let message = format!("is {actual:?}, but the path says {expected:?}");
            return Err(Problem::contradiction(&path.join("."), message));
        }
        _ => {}
    }
    Ok(())
}

fn resource(status: StatusCode, headers: &HeaderMap, object: &Object) -> Response {
    let mut response = body::answer(status, headers, &object.to_value());
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", object.meta.resource_version)) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
