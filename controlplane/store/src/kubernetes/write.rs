//! Writes: one after the other, each answered once the API server has taken it and readers see it.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::Error;
use kube::api::{Api, DeleteParams, DynamicObject, ObjectMeta, PostParams, Preconditions};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use ursa_crds::{Kind, Meta, Object, ObjectKey, decode_value, schema};

use super::follow::Place;
use super::{Cluster, is_there, restore, texts, wire};
use crate::batch::check;
use crate::error::StoreError;
use crate::writer::{Request, in_memory};
use crate::{Outcome, Written};

/// Others may write the same object in between; not forever.
const ATTEMPTS: u32 = 8;

/// Runs until the last store is dropped; the watches end with it.
pub(super) async fn run(
    cluster: Cluster,
    mut requests: mpsc::UnboundedReceiver<Request>,
    _following: JoinSet<()>,
) {
    while let Some(request) = requests.recv().await {
        // A writer that went away has its write all the same.
        match request {
            Request::Put { object, expected, reply } if is_there(object.kind()) => {
                let _ = reply.send(put(&cluster, &object, expected, false).await);
            }
            Request::PutCopy { object, reply } if is_there(object.kind()) => {
                let _ = reply.send(put(&cluster, &object, None, true).await);
            }
            Request::Delete { key, expected, reply } if is_there(key.kind) => {
                let _ = reply.send(delete(&cluster, &key, expected).await);
            }
            Request::Private { name, value, replace, reply } => {
                let _ = reply.send(private(&cluster, &name, value, replace).await);
            }
            Request::Restore { restore, reply } => {
                let _ = reply.send(restore::run(&cluster, *restore).await);
            }
            Request::Authority { reply } => {
                let _ = reply.send(restore::authority(&cluster).await);
            }
            other => in_memory(&cluster.state, other),
        }
    }
}

pub(super) async fn put(
    cluster: &Cluster,
    object: &Object,
    expected: Option<u64>,
    is_copy: bool,
) -> Result<Written, StoreError> {
    let object = &*as_known(object, cluster.schema)?;
    let key = object.key();
    for _ in 0..ATTEMPTS {
        let current = current(cluster, &key);
        not_discovered(cluster, &key)?;
        check(&key, current.as_deref(), as_here(cluster, &key, current.as_deref(), expected))?;
        if let Some(current) = current.as_ref().filter(|current| is_same(current, object, is_copy)) {
            return Ok(Written { object: current.clone(), outcome: Outcome::Unchanged });
        }
        // One that is not taken is there all the same.
        let place = cluster.views.place(&key).filter(|_| expected != Some(0));
        let exists = place.is_some();
        let outcome = if exists { Outcome::Updated } else { Outcome::Created };
        match write(cluster, object, place, is_copy).await {
            Ok(stored) => {
                let taken = cluster.take(key.kind, &stored);
                let object = taken.map_err(|problems| StoreError::Refused(texts(&problems)))?;
                return Ok(Written { object, outcome });
            }
            // Somebody else was faster. (A new one is "not found" where its namespace is not there.)
            Err(Error::Api(status)) if status.code == 409 || exists && status.code == 404 => {
                let is_there = look(cluster, &key, is_copy).await?;
                if is_there && expected == Some(0) {
                    let actual = cluster.views.version(&key).unwrap_or_default();
                    return Err(StoreError::Conflict { key: Box::new(key), expected: 0, actual });
                }
            }
            Err(error) => return Err(failure(&error)),
        }
    }
    Err(StoreError::Unreachable(format!("{key} is changed by others again and again")))
}

/// What of an object is of a schema, as a version that knows no more would have it.
fn as_known(object: &Object, schema: u32) -> Result<Cow<'_, Object>, StoreError> {
    if schema::unknown_in(object, schema).is_empty() {
        return Ok(Cow::Borrowed(object));
    }
    let mut document = object.to_stored_value();
    schema::prune(object.kind(), &mut document, schema);
    let spec = decode_value(&document).map_err(|problem| StoreError::Refused(problem.to_string()))?.spec;
    Ok(Cow::Owned(Object { meta: object.meta.clone(), spec }))
}

/// Creates it, or replaces what is in its place, as far as that is known here.
async fn write(
    cluster: &Cluster,
    object: &Object,
    place: Option<Place>,
    is_copy: bool,
) -> Result<DynamicObject, Error> {
    let key = object.key();
    let document = wire::encode(object, is_copy, &cluster.namespace);
    let wanted: DynamicObject = serde_json::from_value(document).map_err(Error::SerdeError)?;
    let namespace = wanted.metadata.namespace.clone().unwrap_or_default();
    let api = cluster.api(key.kind, &namespace);
    let Some(Place { name, .. }) = place else { return api.create(&PostParams::default(), &wanted).await };
    let stored = api.get(&name).await?;
    // What others keep in the metadata (owners, finalizers) stays.
    let metadata = ObjectMeta {
        labels: wanted.metadata.labels,
        annotations: wanted.metadata.annotations,
        resource_version: newest(cluster, &key),
        ..stored.metadata
    };
    let mut data = wanted.data;
    if let (Some(data), Some(status)) = (data.as_object_mut(), stored.data.get("status")) {
        data.insert("status".into(), status.clone());
    }
    api.replace(&name, &PostParams::default(), &DynamicObject { types: wanted.types, metadata, data }).await
}

/// Takes what the API server has under a key now, after somebody else was faster. False: there is nothing.
async fn look(cluster: &Cluster, key: &ObjectKey, is_copy: bool) -> Result<bool, StoreError> {
    let api = cluster.api(key.kind, &key.namespace);
    let name = match cluster.views.place(key) {
        Some(place) => place.name,
        None if is_copy => wire::copy_name(key),
        None => wire::own_name(key),
    };
    let Some(stored) = api.get_opt(&name).await.map_err(|error| failure(&error))? else {
        cluster.gone(key, None);
        return Ok(false);
    };
    match cluster.take(key.kind, &stored) {
        Ok(object) if object.key() != *key => {
            Err(StoreError::Refused(format!("{key}: the name is taken by {}", object.key())))
        }
        // What is wrong with it is to be replaced.
        Ok(_) | Err(_) => Ok(true),
    }
}

pub(super) async fn delete(
    cluster: &Cluster,
    key: &ObjectKey,
    expected: Option<u64>,
) -> Result<Arc<Object>, StoreError> {
    for _ in 0..ATTEMPTS {
        let current = current(cluster, key);
        not_discovered(cluster, key)?;
        check(key, current.as_deref(), as_here(cluster, key, current.as_deref(), expected))?;
        let current = current.ok_or_else(|| StoreError::NotFound(Box::new(key.clone())))?;
        let preconditions = Preconditions { resource_version: newest(cluster, key), uid: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let place = cluster.views.place(key);
        let namespace = place.as_ref().map_or(key.namespace.as_str(), |place| &place.namespace);
        let name = place.as_ref().map_or(key.name.as_str(), |place| &place.name);
        match cluster.api(key.kind, namespace).delete(name, &params).await {
            Ok(_) => {
                cluster.gone(key, None);
                return Ok(current);
            }
            Err(Error::Api(status)) if status.code == 409 || status.code == 404 => {
                look(cluster, key, false).await?;
            }
            Err(error) => return Err(failure(&error)),
        }
    }
    Err(StoreError::Unreachable(format!("{key} is changed by others again and again")))
}

/// Stores a private value, or finds the one that is there.
pub(super) async fn private(
    cluster: &Cluster,
    name: &str,
    value: Vec<u8>,
    replace: bool,
) -> Result<Vec<u8>, StoreError> {
    if !replace && let Some(stored) = cluster.read_state().private.get(name).cloned() {
        return Ok(stored);
    }
    let api: Api<Secret> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let secret = wire::private(name, value);
    let params = PostParams::default();
    let stored = match api.create(&params, &secret).await {
        Err(Error::Api(status)) if status.code == 409 && replace => {
            api.replace(&wire::private_name(name), &params, &secret).await
        }
        Err(Error::Api(status)) if status.code == 409 => api.get(&wire::private_name(name)).await,
        written => written,
    };
    let stored = stored.map_err(|error| failure(&error))?;
    let (_, value) = wire::read_private(stored).ok_or_else(|| {
        StoreError::Refused(format!("the Secret {} holds something else", wire::private_name(name)))
    })?;
    cluster.write_state().take_private(name.to_owned(), value.clone());
    Ok(value)
}

/// The API server's version that a write expects: what was seen last.
fn newest(cluster: &Cluster, key: &ObjectKey) -> Option<String> {
    cluster.views.version(key).map(|version| version.to_string())
}

/// Who read the object from the API server itself knows it by that version.
fn as_here(
    cluster: &Cluster,
    key: &ObjectKey,
    current: Option<&Object>,
    expected: Option<u64>,
) -> Option<u64> {
    match current {
        Some(current) if expected.is_some() && expected == cluster.views.version(key) => {
            Some(current.meta.resource_version)
        }
        _ => expected,
    }
}

/// What is discovered goes with what it was discovered from.
fn not_discovered(cluster: &Cluster, key: &ObjectKey) -> Result<(), StoreError> {
    if !cluster.read_state().discovered.contains(key) {
        return Ok(());
    }
    let of = match key.kind {
        Kind::ZoneIngress => "of the ZoneIngress that the operator sets up: change or delete that one",
        _ => "that of a pod: change or delete the pod",
    };
    Err(StoreError::Refused(format!("{key} is {of}")))
}

fn current(cluster: &Cluster, key: &ObjectKey) -> Option<Arc<Object>> {
    cluster.read_state().objects.get(key).cloned()
}

fn is_same(current: &Object, object: &Object, is_copy: bool) -> bool {
    let theirs = &object.meta;
    let same = current.spec == object.spec
        && current.meta.labels == theirs.labels
        && current.meta.annotations == theirs.annotations;
    let origin = |meta: &Meta| (meta.uid.clone(), meta.generation, meta.created);
    same && (!is_copy || origin(&current.meta) == origin(theirs))
}

pub(super) fn failure(error: &Error) -> StoreError {
    match error {
        Error::Api(status) if matches!(status.code, 400 | 403 | 422) => {
            StoreError::Refused(status.message.clone())
        }
        Error::Api(status) => StoreError::Unreachable(status.message.clone()),
        error => StoreError::Unreachable(error.to_string()),
    }
}
