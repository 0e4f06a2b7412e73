//! From bytes to objects, once, at the border. Unknown fields are refused with their path.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{API_VERSION, KINDS, Kind, Meta, Object};

/// What is wrong with one field of a resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Problem {
    /// Path of the field from the document's root, such as `spec.conf.split[1].weight`.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Problem {
    /// A problem of this field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// What is known of something that was read, and the path of the first field that is not.
pub type Known<T> = (T, Option<String>);

/// Why bytes are no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not UTF-8, or neither YAML nor JSON.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// Readable, but not an object of Ursa.
    #[error(transparent)]
    Invalid(#[from] Problem),
}

/// Splits YAML or JSON text into documents; empty documents are left out.
pub fn parse_documents(bytes: &[u8]) -> Result<Vec<Value>, DecodeError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| DecodeError::Unreadable(format!("invalid UTF-8 at byte {}", e.valid_up_to())))?;
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|e| DecodeError::Unreadable(e.to_string()))?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Reads exactly one object from YAML or JSON text.
pub fn decode(bytes: &[u8]) -> Result<Object, DecodeError> {
    match parse_documents(bytes)?.as_slice() {
        [document] => Ok(decode_value(document)?),
        documents => {
            Err(DecodeError::Unreadable(format!("expected one document, found {}", documents.len())))
        }
    }
}

/// Reads an object from its JSON form. `status` and server-set metadata other than `resourceVersion` are ignored.
pub fn decode_value(document: &Value) -> Result<Object, Problem> {
    all_known(decode_known(document)?)
}

/// The same of what another version may have written: without what of `spec` is not known here. Only for who knows what the
/// object is without.
pub fn decode_known(document: &Value) -> Result<Known<Object>, Problem> {
    let Value::Object(fields) = document else {
        return Err(Problem::new("", "a resource is a map with apiVersion, kind, metadata and spec"));
    };
    if let Some(unknown) = fields
        .keys()
        .find(|key| !["apiVersion", "kind", "metadata", "spec", "status"].contains(&key.as_str()))
    {
        return Err(Problem::new(unknown, "unknown field"));
    }
    let text = |field: &str| fields.get(field).and_then(Value::as_str).unwrap_or_default();
    if text("apiVersion") != API_VERSION {
        return Err(Problem::new("apiVersion", format!("must be {API_VERSION}")));
    }
    let kind = Kind::by_name(text("kind")).ok_or_else(|| {
        let known: Vec<_> = KINDS.iter().map(|info| info.name).collect();
        Problem::new("kind", format!("unknown kind {:?}; known are {}", text("kind"), known.join(", ")))
    })?;
    let meta = decode_meta(fields.get("metadata").unwrap_or(&Value::Null))?;
    let empty = Value::Object(serde_json::Map::new());
    let (spec, unknown) =
        (kind.info().decode_spec)(fields.get("spec").filter(|spec| !spec.is_null()).unwrap_or(&empty))?;
    Ok((Object { meta, spec }, unknown))
}

fn decode_meta(value: &Value) -> Result<Meta, Problem> {
    let meta: ObjectMeta = strict(value, "metadata")?;
    let resource_version = match meta.resource_version.as_deref().unwrap_or_default() {
        "" => 0,
        text => text
            .parse()
            .map_err(|_| Problem::new("metadata.resourceVersion", "must be as the server returned it"))?,
    };
    Ok(Meta {
        name: meta.name.unwrap_or_default(),
        namespace: meta.namespace.unwrap_or_default(),
        labels: meta.labels.unwrap_or_default(),
        annotations: meta.annotations.unwrap_or_default(),
        uid: meta.uid.unwrap_or_default(),
        generation: meta.generation.and_then(|n| u64::try_from(n).ok()).unwrap_or_default(),
        resource_version,
        created: meta.creation_timestamp.map(|time| -> Timestamp { time.0 }),
    })
}

/// Deserializes `value`; an unknown field or a wrong type is a problem with its path below `root`.
fn strict<T: DeserializeOwned>(value: &Value, root: &str) -> Result<T, Problem> {
    all_known(known(value, root)?)
}

fn all_known<T>((decoded, unknown): Known<T>) -> Result<T, Problem> {
    unknown.map_or(Ok(decoded), |path| Err(Problem::new(path, "unknown field")))
}

/// Deserializes what is known of `value`, with the path below `root` of the first field that is not.
pub(crate) fn known<T: DeserializeOwned>(value: &Value, root: &str) -> Result<Known<T>, Problem> {
    let mut unknown = None;
    let mut track = serde_path_to_error::Track::new();
    let decoded = {
        let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
        serde_ignored::deserialize(deserializer, |path| {
            unknown.get_or_insert_with(|| path.to_string());
        })
    };
    match decoded {
        Ok(decoded) => Ok((decoded, unknown.map(|path| join(root, &brackets(&path))))),
        Err(error) => {
            let path = track.path().to_string();
            Err(Problem::new(join(root, if path == "." { "" } else { &path }), error.to_string()))
        }
    }
}

fn join(root: &str, path: &str) -> String {
    if path.is_empty() || path.starts_with('[') { format!("{root}{path}") } else { format!("{root}.{path}") }
}

/// `serde_ignored` writes `a.0.b` and `a.?.b` where users read `a[0].b` and `a.b`.
fn brackets(path: &str) -> String {
    let mut out = String::new();
    for part in path.split('.').filter(|part| *part != "?") {
        if !out.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            out.extend(["[", part, "]"]);
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(part);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(yaml: &str) -> String {
        decode(yaml.as_bytes()).unwrap_err().to_string()
    }

    const ROUTE: &str = "apiVersion: ursamesh.io/v1alpha1\nkind: TrafficRoute\nmetadata: {name: r}\n";

    #[test]
    fn an_unknown_field_is_named_with_its_path() {
        let yaml = format!(
            "{ROUTE}spec:\n  sources: []\n  destinations: []\n  conf: {{split: [{{weight: 1, destination: {{}}, wheel: 2}}]}}\n"
        );
        assert_eq!(problem(&yaml), "spec.conf.split[0].wheel: unknown field");
    }

    #[test]
    fn what_is_known_is_read_by_who_asks_for_no_more() {
        let with = |sources: &str| {
            let yaml =
                format!("{ROUTE}spec: {{sources: [{sources}], destinations: [], conf: {{split: []}}}}\n");
            decode_known(&parse_documents(yaml.as_bytes()).unwrap()[0]).unwrap()
        };
        let (object, unknown) = with("{match: {a: b}, wheel: {spokes: 2}}");
        assert_eq!(unknown.as_deref(), Some("spec.sources[0].wheel"));
        assert_eq!((object, None), with("{match: {a: b}}"));
    }

    #[test]
    fn a_wrong_type_is_named_with_its_path() {
        let yaml = format!(
            "{ROUTE}spec:\n  sources: []\n  destinations: []\n  conf: {{split: [{{weight: -1, destination: {{}}}}]}}\n"
        );
        assert!(problem(&yaml).starts_with("spec.conf.split[0].weight: "), "{}", problem(&yaml));
    }

    #[test]
    fn unreadable_is_told_from_invalid() {
        assert!(matches!(decode(b"\xff\xfe"), Err(DecodeError::Unreadable(_))));
        assert!(matches!(decode(b"a: [1"), Err(DecodeError::Unreadable(_))));
        assert!(matches!(decode(b"a: 1\na: 2\n"), Err(DecodeError::Unreadable(_))));
        assert!(matches!(decode(b"kind: Mesh\n"), Err(DecodeError::Invalid(_))));
    }

    #[test]
    fn an_object_reads_back_as_it_was_written() {
        let yaml = "apiVersion: ursamesh.io/v1alpha1\nkind: Mesh\nmetadata: {name: default, labels: {a: b}}\nspec: {mtls: {enabledBackend: ca-1, backends: [{name: ca-1, type: Builtin}]}}\n";
        let object = decode(yaml.as_bytes()).unwrap();
        assert_eq!(decode_value(&object.to_value()).unwrap(), object);
    }
}
