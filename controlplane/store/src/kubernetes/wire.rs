//! An object as the API server holds it. Pure.
//!
//! The namespace of the system is the empty one here, as on machines without Kubernetes. A copy of another store's object
//! has a name of its own there, so that it never meets a user's; its annotations say what it is a copy of. What is in a user's
//! namespace is no copy, whatever its annotations say.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use ursa_crds::{
    API_VERSION, DEFAULT_MESH, Kind, Meta, Object, ObjectKey, Owner, Problem, Scope, decode_known,
    decode_value, schema,
};

/// The types of the Secrets that the store reads.
pub(super) const SECRET_TYPE: &str = "ursamesh.io/secret";
pub(super) const PRIVATE_TYPE: &str = "ursamesh.io/private";

/// Which mesh a Secret belongs to.
const MESH_LABEL: &str = "ursamesh.io/mesh";
/// Metadata of the object that this is a copy of, as JSON.
const ORIGIN: &str = "ursamesh.io/origin";
const VALUE: &str = "value";
const NAME: &str = "name";

/// The name of a copy: readable, and no two keys share one.
pub(super) fn copy_name(key: &ObjectKey) -> String {
    // Those names are unique already.
    if key.kind.info().scope == Scope::Global {
        return key.name.clone();
    }
    let parts = json!([key.kind.info().name, key.mesh, key.namespace, key.name]).to_string();
    let start: String = key.name.chars().take(40).collect();
    format!("{}-{}", start.trim_end_matches(['-', '.']), hash(&parts))
}

/// The name of what belongs here. What control planes write of a zone they write once a mesh, all in one namespace.
pub(super) fn own_name(key: &ObjectKey) -> String {
    match key.kind {
        Kind::MeshZone => format!("{}.{}", key.name, key.mesh),
        _ => key.name.clone(),
    }
}

/// The name of the Secret that holds a private value.
pub(super) fn private_name(name: &str) -> String {
    format!("ursa-private-{}", hash(name))
}

fn hash(text: &str) -> String {
    Sha256::digest(text).iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// As it is written. `is_copy`: it keeps its owner's metadata.
pub(super) fn encode(object: &Object, is_copy: bool, system: &str) -> Value {
    let key = object.key();
    let mut annotations = object.meta.annotations.clone();
    let mut labels = object.meta.labels.clone();
    let name = if is_copy {
        let meta = &object.meta;
        let origin = json!({
            "name": meta.name, "namespace": meta.namespace, "uid": meta.uid, "generation": meta.generation,
            "created": meta.created,
        });
        annotations.insert(ORIGIN.into(), origin.to_string());
        copy_name(&key)
    } else {
        own_name(&key)
    };
    let mut metadata = json!({"name": name});
    if key.kind.info().namespaced {
        let own = if is_copy || key.namespace.is_empty() { system } else { &key.namespace };
        metadata["namespace"] = json!(own);
    }
    let spec = object.to_stored_value()["spec"].take();
    if key.kind == Kind::Secret {
        labels.insert(MESH_LABEL.into(), key.mesh);
        (metadata["labels"], metadata["annotations"]) = (json!(labels), json!(annotations));
        let data = json!({VALUE: spec["value"]});
        return json!({"apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE, "metadata": metadata, "stringData": data});
    }
    (metadata["labels"], metadata["annotations"]) = (json!(labels), json!(annotations));
    json!({"apiVersion": API_VERSION, "kind": key.kind.info().name, "metadata": metadata, "spec": spec})
}

/// What is compared when a writer expects a version: equal in every replica for the same object, whatever else the API
/// server keeps of it (its own version changes with every status).
pub(super) fn version(object: &Object) -> u64 {
    let value = object.to_stored_value();
    let meta = &object.meta;
    let parts = json!([meta.uid, meta.generation, meta.labels, meta.annotations, value["spec"]]).to_string();
    let digest = Sha256::digest(parts);
    // Positive in every language's integers; 0 stands for no object.
    digest.iter().take(7).fold(0, |sum, byte| sum << 8 | u64::from(*byte)).max(1)
}

/// The API server's own version of an object.
pub(super) fn stored_version(stored: &DynamicObject) -> u64 {
    stored.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// As the store holds it. The problem names the field that cannot be read.
pub(super) fn decode(kind: Kind, stored: &DynamicObject, system: &str) -> Result<Object, Problem> {
    finish(decode_value(&document(kind, stored)?)?, system)
}

/// The same as a version that knows no more than a schema. What users write is refused if it has more. What control planes
/// write is taken without it: a later version may have, and whoever it came from, or the zone itself, says it again.
pub(super) fn understand(
    kind: Kind,
    stored: &DynamicObject,
    system: &str,
    schema: u32,
) -> Result<Object, Problem> {
    if !schema::knows(kind, schema) || !is_of_control_planes(kind, stored, system) {
        schema::check(kind, &stored.data, schema)?;
        return decode(kind, stored, system);
    }
    let mut document = document(kind, stored)?;
    let later = schema::check(kind, &document, schema);
    schema::prune(kind, &mut document, schema);
    let (object, unknown) = decode_known(&document)?;
    let later = later.and(unknown.map_or(Ok(()), |path| Err(Problem::new(path, "unknown field"))));
    if !schema::stands_without_later(&object) {
        later?;
    }
    finish(object, system)
}

/// The key of what control planes wrote and this one cannot read: it can be replaced all the same.
pub(super) fn written_key(kind: Kind, stored: &DynamicObject, system: &str) -> Option<ObjectKey> {
    if !is_of_control_planes(kind, stored, system) {
        return None;
    }
    let mesh = match kind.info().scope {
        Scope::Global => "",
        Scope::Mesh => stored.data.pointer("/spec/mesh").map_or(Some(DEFAULT_MESH), Value::as_str)?,
    };
    let mut meta = Meta {
        name: stored.metadata.name.clone()?,
        namespace: stored.metadata.namespace.clone().unwrap_or_default(),
        annotations: stored.metadata.annotations.clone().unwrap_or_default(),
        ..Meta::default()
    };
    restore(&mut meta, kind, mesh, system).ok()?;
    Some(ObjectKey { kind, mesh: mesh.to_owned(), namespace: meta.namespace, name: meta.name })
}

fn document(kind: Kind, stored: &DynamicObject) -> Result<Value, Problem> {
    let meta = &stored.metadata;
    let mut document = json!({"apiVersion": API_VERSION, "kind": kind.info().name, "metadata": meta});
    if kind == Kind::Secret {
        let mesh = meta.labels.as_ref().and_then(|labels| labels.get(MESH_LABEL));
        let mesh = mesh.map_or(DEFAULT_MESH, String::as_str);
        document["spec"] = json!({"mesh": mesh, "value": secret_value(stored)?});
    } else {
        document["spec"] = stored.data.get("spec").cloned().unwrap_or(Value::Null);
    }
    Ok(document)
}

fn finish(mut object: Object, system: &str) -> Result<Object, Problem> {
    let kind = object.kind();
    if kind == Kind::Secret {
        object.meta.labels.remove(MESH_LABEL);
        // The API server counts no generations of Secrets.
        object.meta.generation = 1;
    }
    restore(&mut object.meta, kind, object.spec.mesh().unwrap_or_default(), system)?;
    object.meta.resource_version = version(&object);
    Ok(object)
}

/// What the object, or the one that it is a copy of, is called here.
fn restore(meta: &mut Meta, kind: Kind, mesh: &str, system: &str) -> Result<(), Problem> {
    if meta.namespace == system {
        meta.namespace.clear();
    }
    let origin = meta.annotations.remove(ORIGIN);
    if let Some(origin) = origin.filter(|_| meta.namespace.is_empty()) {
        return restore_owners(meta, kind, &origin);
    }
    if kind == Kind::MeshZone
        && let Some(zone) = meta.name.strip_suffix(mesh).and_then(|name| name.strip_suffix('.'))
    {
        meta.name = zone.to_owned();
    }
    Ok(())
}

fn restore_owners(meta: &mut Meta, kind: Kind, origin: &str) -> Result<(), Problem> {
    let problem =
        || Problem::new(format!("metadata.annotations[{ORIGIN}]"), "is not what a control plane wrote");
    let origin: Value = serde_json::from_str(origin).map_err(|_| problem())?;
    let text = |field: &str| origin[field].as_str().map(str::to_owned).ok_or_else(problem);
    let name = text("name")?;
    if !kind.info().namespaced && name != meta.name {
        return Err(problem());
    }
    (meta.name, meta.namespace, meta.uid) = (name, text("namespace")?, text("uid")?);
    meta.generation = origin["generation"].as_u64().ok_or_else(problem)?;
    let created: Option<Timestamp> =
        serde_json::from_value(origin["created"].clone()).map_err(|_| problem())?;
    meta.created = created;
    Ok(())
}

fn secret_value(stored: &DynamicObject) -> Result<String, Problem> {
    let secret: Secret =
        stored.clone().try_parse().map_err(|error| Problem::new("data", error.to_string()))?;
    let value = secret.data.unwrap_or_default().remove(VALUE);
    let value = value.ok_or_else(|| Problem::new("data", format!("must have the key {VALUE}")))?;
    String::from_utf8(value.0).map_err(|_| Problem::new(format!("data.{VALUE}"), "is not UTF-8 text"))
}

/// Whether it says what the operator is to set up, rather than what there is.
pub(super) fn is_of_operator(kind: Kind, stored: &DynamicObject) -> bool {
    kind == Kind::ZoneIngress && stored.data.pointer("/spec/controlPlaneRef").is_some_and(|of| !of.is_null())
}

/// Whether it is of a kind that zones own and in a namespace of somebody else.
pub(super) fn is_out_of_place(kind: Kind, stored: &DynamicObject, system: &str) -> bool {
    kind.info().owner == Owner::Zone && is_of_users(kind, stored, system)
}

/// Whether it is in a namespace of users.
fn is_of_users(kind: Kind, stored: &DynamicObject, system: &str) -> bool {
    kind.info().namespaced && stored.metadata.namespace.as_deref() != Some(system)
}

/// Whether it is a copy of another store's object.
pub(super) fn is_copy(kind: Kind, stored: &DynamicObject, system: &str) -> bool {
    let annotations = stored.metadata.annotations.as_ref();
    !is_of_users(kind, stored, system) && annotations.is_some_and(|all| all.contains_key(ORIGIN))
}

/// Whether only control planes write it: it is a copy, or what a zone says of itself.
pub(super) fn is_of_control_planes(kind: Kind, stored: &DynamicObject, system: &str) -> bool {
    match kind.info().owner {
        Owner::Global => is_copy(kind, stored, system),
        Owner::Zone => !is_of_users(kind, stored, system) && !is_of_operator(kind, stored),
        Owner::GlobalOnly | Owner::ZoneOnly | Owner::ZoneObserved | Owner::GlobalObserved => false,
    }
}

/// The Secret that holds a private value.
pub(super) fn private(name: &str, value: Vec<u8>) -> Secret {
    let data = [(NAME, name.as_bytes().to_vec()), (VALUE, value)];
    let mut secret = Secret {
        type_: Some(PRIVATE_TYPE.into()),
        data: Some(data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value))).collect()),
        ..Secret::default()
    };
    secret.metadata.name = Some(private_name(name));
    secret
}

/// Name and value of a private value.
pub(super) fn read_private(secret: Secret) -> Option<(String, Vec<u8>)> {
    let mut data: BTreeMap<String, ByteString> = secret.data?;
    let name = String::from_utf8(data.remove(NAME)?.0).ok()?;
    Some((name, data.remove(VALUE)?.0))
}

#[cfg(test)]
mod tests;
