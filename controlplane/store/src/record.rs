//! The form of an object on disk: the resource as users see it, as JSON, with the creation time to the nanosecond.

use serde_json::{Value, json};
use ursa_crds::{Object, ObjectKey, decode_value, schema};

/// The name of the entry: no two keys share one, whatever their parts hold.
pub(crate) fn name(key: &ObjectKey) -> String {
    json!([key.kind.info().name, key.mesh, key.namespace, key.name]).to_string()
}

/// What of it is of a schema.
pub(crate) fn encode(object: &Object, schema: u32) -> Vec<u8> {
    let mut record = to_value(object);
    schema::prune(object.kind(), &mut record["object"], schema);
    record.to_string().into_bytes()
}

pub(crate) fn to_value(object: &Object) -> Value {
    json!({"object": object.to_stored_value(), "created": object.meta.created})
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Object, String> {
    from_value(&serde_json::from_slice(bytes).map_err(|error| error.to_string())?)
}

pub(crate) fn from_value(record: &Value) -> Result<Object, String> {
    let mut object = decode_value(&record["object"])
        .map_err(|error| format!("{error} (perhaps it was written by a later version)"))?;
    object.meta.created =
        serde_json::from_value(record["created"].clone()).map_err(|error| error.to_string())?;
    Ok(object)
}
