//! Objects on the wire, as the schema has them that both ends speak.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use ursa_crds::{Kind, Object, ObjectKey, schema};
use ursa_model::fingerprint;
use ursa_proto::sync::{self, Held, Item};

use crate::Delta;

/// What of an object is of a schema.
fn value(object: &Object, schema: u32) -> Value {
    let mut value = object.to_value();
    schema::prune(object.kind(), &mut value, schema);
    value
}

/// A copy and its owner agree on this, whatever their stores count and whatever else of it one of them knows.
pub fn version(object: &Object, schema: u32) -> String {
    let meta = &object.meta;
    let spec = value(object, schema)["spec"].take();
    let content = (&meta.uid, meta.generation, &meta.labels, &meta.annotations, meta.created, spec);
    fingerprint(&content).to_string()
}

/// A key on the wire.
pub fn key(key: &ObjectKey) -> sync::Key {
    sync::Key { kind: key.kind.info().name.to_owned(), mesh: key.mesh.clone(), name: key.name.clone() }
}

/// `None` for a kind that is not of the schema.
pub fn read_key(key: sync::Key, schema: u32) -> Option<ObjectKey> {
    let kind = Kind::by_name(&key.kind).filter(|kind| schema::knows(*kind, schema))?;
    Some(ObjectKey { kind, mesh: key.mesh, namespace: String::new(), name: key.name })
}

/// What a holder says that it has.
pub fn held(objects: &[Arc<Object>], schema: u32) -> Vec<Held> {
    let known = objects.iter().filter(|object| schema::knows(object.kind(), schema));
    known.map(|object| Held { key: Some(key(&object.key())), version: version(object, schema) }).collect()
}

/// Entries of kinds that are not of the schema are left alone.
pub fn read_held(held: Vec<Held>, schema: u32) -> impl Iterator<Item = (ObjectKey, String)> {
    held.into_iter().filter_map(move |entry| Some((read_key(entry.key?, schema)?, entry.version)))
}

/// A delta on the wire.
pub fn delta(delta: Delta<ObjectKey, Arc<Object>>, schema: u32) -> sync::Delta {
    let item = |(id, version, object): (ObjectKey, String, Arc<Object>)| Item {
        key: Some(key(&id)),
        version,
        object: json!({"object": value(&object, schema), "created": object.meta.created})
            .to_string()
            .into_bytes(),
    };
    sync::Delta {
        sequence: delta.sequence,
        upserts: delta.upserts.into_iter().map(item).collect(),
        removals: delta.removals.iter().map(key).collect(),
    }
}

/// The object of an item, with the metadata that its owner set. It must be the one that the key names: under that key
/// the owner will speak of it again. What is not of the schema nobody sends: what it would mean is not known.
pub fn read_object(item: &Item, schema: u32) -> Result<Object, String> {
    let value: Value = serde_json::from_slice(&item.object).map_err(|error| error.to_string())?;
    let mut object = ursa_crds::decode_value(&value["object"]).map_err(|error| error.to_string())?;
    schema::check(object.kind(), &value["object"], schema).map_err(|error| error.to_string())?;
    let created: Option<Timestamp> =
        serde_json::from_value(value["created"].clone()).map_err(|error| format!("created: {error}"))?;
    object.meta.created = created;
    object.meta.resource_version = 0;
    if item.key.clone().and_then(|key| read_key(key, schema)).as_ref() == Some(&object.key()) {
        Ok(object)
    } else {
        Err(format!("{} came under another key", object.key()))
    }
}
