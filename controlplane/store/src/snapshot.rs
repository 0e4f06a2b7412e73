//! What a store of a global control plane is made of, so that another one can be made the same.
//!
//! Invariant: what is about the store itself (its epoch, whether it was adopted) is not in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use ursa_crds::{Kind, Object, Owner};

use crate::record;

/// Objects, keys, and the operator's authority where there is one. It holds secrets.
#[derive(Clone, Default, PartialEq)]
pub struct Snapshot {
    /// In the order in which they can be applied; of an age, the older first.
    pub objects: Vec<Object>,
    /// Private values by their names.
    pub private: BTreeMap<String, String>,
    /// On Kubernetes: the data of the Secret with the authority that the operator made for this control plane; else empty.
    pub authority: BTreeMap<String, String>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("objects", &self.objects.len()).finish_non_exhaustive()
    }
}

/// Why a value is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct SnapshotError {
    /// Which part.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl Snapshot {
    /// Whether objects of a kind are in it: what users write at global, what zones say of themselves to others, and which
    /// zones were ever there.
    pub fn includes(kind: Kind) -> bool {
        match kind.info().owner {
            Owner::Global | Owner::GlobalOnly | Owner::Zone | Owner::GlobalObserved => true,
            Owner::ZoneOnly | Owner::ZoneObserved => false,
        }
    }

    /// As JSON.
    pub fn to_value(&self) -> Value {
        let objects: Vec<Value> = self.objects.iter().map(record::to_value).collect();
        json!({"objects": objects, "private": self.private, "authority": self.authority})
    }

    /// From what [`Self::to_value`] gave: all of it, or nothing.
    pub fn from_value(value: &Value) -> Result<Self, SnapshotError> {
        let refuse = |field: &str, message: String| SnapshotError { field: field.to_owned(), message };
        let fields = value.as_object().ok_or_else(|| refuse("content", "is no map".into()))?;
        if let Some(unknown) =
            fields.keys().find(|key| !["objects", "private", "authority"].contains(&key.as_str()))
        {
            return Err(refuse(unknown, "is not known to this version".into()));
        }
        let records = fields.get("objects").and_then(Value::as_array);
        let records = records.ok_or_else(|| refuse("objects", "is no list".into()))?;
        let mut objects = Vec::with_capacity(records.len());
        let mut keys = BTreeSet::new();
        for (index, record) in records.iter().enumerate() {
            let field = format!("objects[{index}]");
            let object = record::from_value(record).map_err(|error| refuse(&field, error))?;
            if !Self::includes(object.kind()) {
                return Err(refuse(&field, format!("a {} belongs to no backup", object.kind())));
            }
            if !keys.insert(object.key()) {
                return Err(refuse(&field, format!("{} is there twice", object.key())));
            }
            objects.push(object);
        }
        let texts = |name: &str| -> Result<BTreeMap<String, String>, SnapshotError> {
            let map = fields
                .get(name)
                .and_then(Value::as_object)
                .ok_or_else(|| refuse(name, "is no map".into()))?;
            texts(map).ok_or_else(|| refuse(name, "holds something that is no text".into()))
        };
        Ok(Self { objects, private: texts("private")?, authority: texts("authority")? })
    }
}

fn texts(map: &Map<String, Value>) -> Option<BTreeMap<String, String>> {
    map.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// `sha256:` and the hexadecimal digest of JSON with the keys of maps in order, whatever order they came in.
pub fn checksum(content: &Value) -> String {
    let digest = Sha256::digest(ordered(content).to_string());
    digest.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn ordered(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<&String, Value> =
                fields.iter().map(|(key, value)| (key, ordered(value))).collect();
            Value::Object(fields.into_iter().map(|(key, value)| (key.clone(), value)).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(ordered).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_content_in_any_order() {
        let text = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let one = checksum(&text(r#"{"a": {"x": 1, "y": [1, {"p": 1, "q": 2}]}, "b": "c"}"#));
        assert_eq!(one, checksum(&text(r#"{"b": "c", "a": {"y": [1, {"q": 2, "p": 1}], "x": 1}}"#)));
        assert_ne!(one, checksum(&text(r#"{"b": "c", "a": {"y": [{"q": 2, "p": 1}, 1], "x": 1}}"#)));
    }

    #[test]
    fn a_snapshot_reads_back_and_says_no_secret_by_itself() {
        let decode =
            |yaml: &str| ursa_crds::decode(format!("apiVersion: ursamesh.io/v1alpha1\n{yaml}").as_bytes());
        let mut secret = decode("kind: Secret\nmetadata: {name: key}\nspec: {value: hush}\n").unwrap();
        secret.meta.uid = "u".into();
        secret.meta.generation = 3;
        secret.meta.created = Some("2026-01-01T00:00:00.123456789Z".parse().unwrap());
        let text = |name: &str| BTreeMap::from([(name.to_owned(), "hush".to_owned())]);
        let snapshot = Snapshot { objects: vec![secret], private: text("k"), authority: text("tls.key") };
        assert_eq!(Snapshot::from_value(&snapshot.to_value()).unwrap(), snapshot);
        assert!(!format!("{snapshot:?}").contains("hush"));
    }

    #[test]
    fn what_is_no_snapshot_is_refused_with_the_place() {
        let refused = |change: fn(&mut Value)| {
            let mesh =
                ursa_crds::decode(b"apiVersion: ursamesh.io/v1alpha1\nkind: Mesh\nmetadata: {name: m}\n");
            let mut value = Snapshot { objects: vec![mesh.unwrap()], ..Snapshot::default() }.to_value();
            change(&mut value);
            Snapshot::from_value(&value).unwrap_err().to_string()
        };
        assert_eq!(refused(|value| *value = json!(1)), "content: is no map");
        assert_eq!(refused(|value| value["more"] = json!(1)), "more: is not known to this version");
        assert_eq!(
            refused(|value| value["private"] = json!({"a": 1})),
            "private: holds something that is no text"
        );
        let twice = refused(|value| value["objects"] = json!([value["objects"][0], value["objects"][0]]));
        assert_eq!(twice, "objects[1]: Mesh m is there twice");
        let later = refused(|value| value["objects"][0]["object"]["spec"]["shape"] = json!("round"));
        assert!(later.starts_with("objects[0]: ") && later.contains("later version"), "{later}");
        let zone_s = refused(|value| value["objects"][0]["object"]["kind"] = json!("MeshZoneInsight"));
        assert!(zone_s.starts_with("objects[0]: "), "{zone_s}");
    }
}
