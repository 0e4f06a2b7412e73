//! Objects on the wire.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use ursa_crds::{Kind, Object, ObjectKey};
use ursa_model::fingerprint;
use ursa_proto::sync::{self, Held, Item};

use crate::Delta;

/// A copy and its owner agree on this, whatever their stores count.
pub fn version(object: &Object) -> String {
    let meta = &object.meta;
    let content = (
        &meta.uid,
        meta.generation,
        &meta.labels,
        &meta.annotations,
        meta.created,
        object.to_value()["spec"].clone(),
    );
    fingerprint(&content).to_string()
}

/// A key on the wire.
pub fn key(key: &ObjectKey) -> sync::Key {
    sync::Key { kind: key.kind.info().name.to_owned(), mesh: key.mesh.clone(), name: key.name.clone() }
}

/// `None` for a kind that this version does not know.
pub fn read_key(key: sync::Key) -> Option<ObjectKey> {
    let kind = Kind::by_name(&key.kind)?;
    Some(ObjectKey { kind, mesh: key.mesh, namespace: String::new(), name: key.name })
}

/// What a holder says that it has.
pub fn held(objects: &[Arc<Object>]) -> Vec<Held> {
    objects.iter().map(|object| Held { key: Some(key(&object.key())), version: version(object) }).collect()
}

/// Entries of kinds that this version does not know are left alone.
pub fn read_held(held: Vec<Held>) -> impl Iterator<Item = (ObjectKey, String)> {
    held.into_iter().filter_map(|entry| Some((read_key(entry.key?)?, entry.version)))
}

/// A delta on the wire.
pub fn delta(delta: Delta<ObjectKey, Arc<Object>>) -> sync::Delta {
    let item = |(id, version, object): (ObjectKey, String, Arc<Object>)| Item {
        key: Some(key(&id)),
        version,
        object: json!({"object": object.to_value(), "created": object.meta.created}).to_string().into_bytes(),
    };
    sync::Delta {
        sequence: delta.sequence,
        upserts: delta.upserts.into_iter().map(item).collect(),
        removals: delta.removals.iter().map(key).collect(),
    }
}

/// The object of an item, with the metadata that its owner set. It must be the one that the key names: under that key
/// the owner will speak of it again.
pub fn read_object(item: &Item) -> Result<Object, String> {
    let value: Value = serde_json::from_slice(&item.object).map_err(|error| error.to_string())?;
    let mut object = ursa_crds::decode_value(&value["object"]).map_err(|error| error.to_string())?;
    let created: Option<Timestamp> =
        serde_json::from_value(value["created"].clone()).map_err(|error| format!("created: {error}"))?;
    object.meta.created = created;
    object.meta.resource_version = 0;
    if item.key.clone().and_then(read_key).as_ref() == Some(&object.key()) {
        Ok(object)
    } else {
        Err(format!("{} came under another key", object.key()))
    }
}
