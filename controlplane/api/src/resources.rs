//! Resources of every kind: `/meshes/…` and the paths that follow from a kind's scope.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use ursa_crds::{DecodeError, KINDS, Kind, Object, ObjectKey, Scope, schema};
use ursa_store::Outcome;

use crate::body::Whole;
use crate::conditions::Condition;
use crate::list::{Paging, page};
use crate::path::Segments;
use crate::problem::Problem;
use crate::{ApiState, authorities, body, revocations};

type Answer = Result<Response, Problem>;

/// The namespace that policies for a whole mesh have on Kubernetes.
const SYSTEM_NAMESPACE: &str = "ursa-system";

pub(crate) async fn list_global(
    State(state): State<ApiState>,
    Segments(plural): Segments<String>,
    paging: Paging,
    headers: HeaderMap,
) -> Answer {
    Ok(list(&state, kind(&plural, Scope::Global)?, "", &paging, &headers))
}

pub(crate) async fn list_in_mesh(
    State(state): State<ApiState>,
    Segments((mesh, plural)): Segments<(String, String)>,
    paging: Paging,
    headers: HeaderMap,
) -> Answer {
    let kind = kind(&plural, Scope::Mesh)?;
    known_mesh(&state, &mesh)?;
    Ok(list(&state, kind, &mesh, &paging, &headers))
}

pub(crate) async fn get_global(
    State(state): State<ApiState>,
    Segments((plural, name)): Segments<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    get(&state, &key(kind(&plural, Scope::Global)?, "", &name), &headers)
}

pub(crate) async fn get_in_mesh(
    State(state): State<ApiState>,
    Segments((mesh, plural, name)): Segments<(String, String, String)>,
    headers: HeaderMap,
) -> Answer {
    get(&state, &key(kind(&plural, Scope::Mesh)?, &mesh, &name), &headers)
}

pub(crate) async fn put_global(
    State(state): State<ApiState>,
    Segments((plural, name)): Segments<(String, String)>,
    headers: HeaderMap,
    body: Whole,
) -> Answer {
    let key = key(kind(&plural, Scope::Global)?, "", &name);
    // A mesh names secrets in it: they must not go meanwhile.
    let _alone = state.meshes.write().await;
    put(&state, &key, &headers, &body).await
}

pub(crate) async fn put_in_mesh(
    State(state): State<ApiState>,
    Segments((mesh, plural, name)): Segments<(String, String, String)>,
    headers: HeaderMap,
    body: Whole,
) -> Answer {
    let kind = kind(&plural, Scope::Mesh)?;
    let _writing = state.meshes.read().await;
    known_mesh(&state, &mesh)?;
    put(&state, &key(kind, &mesh, &name), &headers, &body).await
}

pub(crate) async fn delete_global(
    State(state): State<ApiState>,
    Segments((plural, name)): Segments<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let key = key(kind(&plural, Scope::Global)?, "", &name);
    if key.kind == Kind::Mesh {
        let _alone = state.meshes.write().await;
        empty_mesh(&state, &name)?;
        return delete(&state, &key, &headers).await;
    }
    delete(&state, &key, &headers).await
}

pub(crate) async fn delete_in_mesh(
    State(state): State<ApiState>,
    Segments((mesh, plural, name)): Segments<(String, String, String)>,
    headers: HeaderMap,
) -> Answer {
    let _writing = state.meshes.read().await;
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

/// A mesh that still holds something stays: whoever deletes it would delete more than was said. What zones say of
/// themselves in it is theirs to take back.
fn empty_mesh(state: &ApiState, mesh: &str) -> Result<(), Problem> {
    let held: Vec<String> = KINDS
        .iter()
        .filter(|info| info.scope == Scope::Mesh && info.owner.is_users())
        .map(|info| (info.plural, state.store.list_in_mesh(info.kind, mesh).len()))
        .filter(|(_, count)| *count > 0)
        .map(|(plural, count)| format!("{count} {plural}"))
        .collect();
    if held.is_empty() {
        return Ok(());
    }
    Err(Problem::conflict(format!("mesh {mesh} still holds {}; delete them first", held.join(", "))))
}

fn list(state: &ApiState, kind: Kind, mesh: &str, paging: &Paging, headers: &HeaderMap) -> Response {
    let objects = state.store.list_in_mesh(kind, mesh);
    // As paths name no namespace: what is in none (on Kubernetes: in the system's).
    let shown = objects.iter().map(AsRef::as_ref).filter(|object| object.meta.namespace.is_empty());
    let value = page(shown, paging, |object| state.shown(object));
    body::answer(StatusCode::OK, headers, &value)
}

fn get(state: &ApiState, key: &ObjectKey, headers: &HeaderMap) -> Answer {
    let object = state.store.get(key).ok_or_else(|| Problem::not_found(format!("{key} does not exist")))?;
    Ok(resource(state, StatusCode::OK, headers, &object))
}

async fn put(state: &ApiState, key: &ObjectKey, headers: &HeaderMap, body: &Whole) -> Answer {
    let mut object = decode(&body.0, key, state.schema)?;
    state.may_write(key.kind)?;
    let _alone = if revocations::is_kept(key.kind) { Some(state.revoking.lock().await) } else { None };
    revocations::keep(state, &mut object);
    let problems = ursa_policy::validate_among(&object, |key| state.store.get(key));
    if !problems.is_empty() {
        return Err(Problem::invalid(problems));
    }
    authorities::check(&state.store, &object)?;
    let condition = Condition::new(headers, object.meta.resource_version, key, version(state, key))?;
    let written =
        state.store.put(object, condition.expected).await.map_err(|error| condition.problem(error))?;
    let status = if written.outcome == Outcome::Created { StatusCode::CREATED } else { StatusCode::OK };
    tracing::info!(%key, outcome = ?written.outcome, "put");
    Ok(resource(state, status, headers, &written.object))
}

async fn delete(state: &ApiState, key: &ObjectKey, headers: &HeaderMap) -> Answer {
    let condition = Condition::new(headers, 0, key, version(state, key))?;
    state.may_write(key.kind)?;
    authorities::unused(&state.store, key)?;
    state.store.delete(key, condition.expected).await.map_err(|error| condition.problem(error))?;
    tracing::info!(%key, "deleted");
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn version(state: &ApiState, key: &ObjectKey) -> Option<u64> {
    state.store.get(key).map(|object| object.meta.resource_version)
}

/// The object in a body, completed from the path; what contradicts the path is refused.
fn decode(bytes: &[u8], key: &ObjectKey, schema: u32) -> Result<Object, Problem> {
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
    let mut object =
        ursa_crds::decode_value(&document).map_err(|problem| Problem::from(DecodeError::Invalid(problem)))?;
    schema::check(key.kind, &document, schema).map_err(DecodeError::Invalid)?;
    // The same file serves Kubernetes, where this namespace means what every policy here means. In another one it
    // would mean less than it would here.
    if !["", SYSTEM_NAMESPACE].contains(&object.meta.namespace.as_str()) {
        let message =
            format!("there are no namespaces outside Kubernetes: leave it out, or {SYSTEM_NAMESPACE}");
        return Err(Problem::contradiction("metadata.namespace", message));
    }
    object.meta.namespace.clear();
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

fn resource(state: &ApiState, status: StatusCode, headers: &HeaderMap, object: &Object) -> Response {
    let mut response = body::answer(status, headers, &state.shown(object));
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", object.meta.resource_version)) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
