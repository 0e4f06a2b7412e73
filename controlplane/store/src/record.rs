//! The form of an object on disk: the resource as users see it, as JSON, with the creation time to the nanosecond.

use serde_json::{Value, json};
use ursa_crds::{Object, ObjectKey, decode_value, schema};

/// The name of the entry: no two keys share one, whatever their parts hold.
pub(crate) fn name(key: &ObjectKey) -> String {
    json!([key.kind.info().name, key.mesh, key.namespace, key.name]).to_string()
}

/// What of it is of a schema.
pub(crate) fn encode(object: &Object, schema: u32) -> Vec<u8> {
    let mut value = object.to_stored_value();
    schema::prune(object.kind(), &mut value, schema);
    json!({"object": value, "created": object.meta.created}).to_string().into_bytes()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Object, String> {
    let record: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let mut object = decode_value(&record["object"]).map_err(|error| error.to_string())?;
    object.meta.created =
        serde_json::from_value(record["created"].clone()).map_err(|error| error.to_string())?;
    Ok(object)
}
