//! Turns a JSON schema of schemars into a structural one, as Kubernetes asks of custom resources.
//!
//! What Kubernetes refuses or warns about is rewritten where that loses nothing, and is an error where it would.
//! Invariant: what comes out has a type at every node, no references, and only formats that Kubernetes knows.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>

use serde_json::{Map, Number, Value, json};

/// Formats of numbers that Kubernetes knows; it warns of others.
const NUMBER_FORMATS: [&str; 4] = ["int32", "int64", "float", "double"];
/// Formats of unsigned integers that schemars writes, with the largest value.
const UNSIGNED: [(&str, u64); 4] = [
    ("uint8", u8::MAX as u64),
    ("uint16", u16::MAX as u64),
    ("uint32", u32::MAX as u64),
    ("uint64", i64::MAX as u64),
];
/// Keywords that a structural schema cannot have, or that would say less than the Rust type behind them.
const REFUSED: [&str; 9] =
    ["$ref", "$defs", "definitions", "allOf", "anyOf", "oneOf", "not", "patternProperties", "const"];

/// A part of a schema that has no structural form.
#[derive(Debug, thiserror::Error)]
#[error("{path}{reason}")]
pub struct NotStructural {
    /// Where it is, from the outside inwards.
    path: String,
    reason: String,
}

impl NotStructural {
    fn new(reason: impl Into<String>) -> Self {
        Self { path: String::new(), reason: reason.into() }
    }

    /// Inside of this.
    pub(crate) fn at(mut self, outer: &str) -> Self {
        self.path = format!("{outer}: {}", self.path);
        self
    }
}

/// Rewrites the schema in place; fails, with the path, where a part cannot be said structurally.
pub(crate) fn make_structural(schema: &mut Value) -> Result<(), NotStructural> {
    let Value::Object(node) = schema else {
        return Err(NotStructural::new(format!("a schema must be an object, not {schema}")));
    };
    if let Some(keyword) = REFUSED.iter().find(|keyword| node.contains_key(**keyword)) {
        let reason = format!("{keyword} has no structural form; give the type a schema of its own");
        return Err(NotStructural::new(reason));
    }
    // The titles are names of Rust types. A null is a field that is absent: nowhere does it mean something else.
    for keyword in ["$schema", "title", "nullable"] {
        node.remove(keyword);
    }
    if let Some(Value::Array(values)) = node.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if let Some(Value::String(text)) = node.get_mut("description") {
        *text = unwrapped(text);
    }
    one_type(node)?;
    numbers(node);
    children(node)
}

/// A type is one name; `["string", "null"]` is schemars' optional string.
fn one_type(node: &mut Map<String, Value>) -> Result<(), NotStructural> {
    if let Some(Value::Array(types)) = node.get_mut("type") {
        types.retain(|name| name != "null");
        if types.len() != 1 {
            return Err(NotStructural::new(format!("type must be one of {types:?}")));
        }
        let only = types.remove(0);
        node.insert("type".into(), only);
    }
    let untyped = ["x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"];
    let typed =
        node.get("type").is_some_and(Value::is_string) || untyped.iter().any(|key| node.contains_key(*key));
    if typed { Ok(()) } else { Err(NotStructural::new("a type is missing")) }
}

/// Bounds in place of unsigned formats; whole bounds without a fraction.
fn numbers(node: &mut Map<String, Value>) {
    if !matches!(node.get("type").and_then(Value::as_str), Some("integer" | "number")) {
        return;
    }
    let format = node.get("format").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some((_, largest)) = UNSIGNED.iter().find(|(name, _)| *name == format) {
        node.entry("minimum").or_insert(json!(0));
        node.entry("maximum").or_insert(json!(largest));
    }
    if !NUMBER_FORMATS.contains(&format.as_str()) {
        node.remove("format");
    }
    for bound in ["minimum", "maximum", "multipleOf"] {
        let whole = node.get(bound).and_then(Value::as_f64).and_then(whole);
        if let Some(whole) = whole {
            node.insert(bound.into(), Value::Number(whole));
        }
    }
}

/// The number as an integer, if it is one that a float holds exactly.
fn whole(number: f64) -> Option<Number> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    if number.fract() != 0.0 || number.abs() > EXACT {
        return None;
    }
    format!("{number:.0}").parse::<i64>().ok().map(Number::from)
}

fn children(node: &mut Map<String, Value>) -> Result<(), NotStructural> {
    if node.get("additionalProperties") == Some(&Value::Bool(false)) {
        node.remove("additionalProperties"); // unknown fields are refused or pruned by the API server itself
    }
    if node.contains_key("properties") && node.contains_key("additionalProperties") {
        return Err(NotStructural::new("properties and additionalProperties exclude one another"));
    }
    if let Some(Value::Object(properties)) = node.get_mut("properties") {
        for (name, property) in properties {
            make_structural(property).map_err(|error| error.at(&format!(".{name}")))?;
        }
    }
    for (keyword, path) in [("items", "[]"), ("additionalProperties", ".*")] {
        if let Some(child) = node.get_mut(keyword) {
            make_structural(child).map_err(|error| error.at(path))?;
        }
    }
    Ok(())
}

/// The text with the line breaks of a wrapped comment undone; blank lines stay.
fn unwrapped(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn structural(mut schema: Value) -> Value {
        make_structural(&mut schema).unwrap();
        schema
    }

    fn refusal(mut schema: Value) -> String {
        make_structural(&mut schema).unwrap_err().to_string()
    }

    #[test]
    fn unsigned_formats_become_bounds_and_bounds_become_whole() {
        let schema = json!({"type": "integer", "format": "uint16", "minimum": 1.0, "maximum": 65535.0});
        assert_eq!(structural(schema), json!({"type": "integer", "minimum": 1, "maximum": 65535}));
        let schema = json!({"type": "integer", "format": "uint32"});
        assert_eq!(
            structural(schema),
            json!({"type": "integer", "minimum": 0, "maximum": 4_294_967_295_u32})
        );
        let schema = json!({"type": "integer", "format": "int64"});
        assert_eq!(structural(schema.clone()), schema);
        let schema = json!({"type": "number", "format": "double", "minimum": 0.5});
        assert_eq!(structural(schema.clone()), schema);
    }

    #[test]
    fn optional_fields_lose_null_and_keep_the_rest() {
        let schema =
            json!({"type": ["string", "null"], "nullable": true, "enum": ["A", null], "maxLength": 3});
        assert_eq!(structural(schema), json!({"type": "string", "enum": ["A"], "maxLength": 3}));
    }

    #[test]
    fn the_pass_reaches_properties_items_and_map_values() {
        let leaf = json!({"type": "string", "title": "T"});
        let schema = json!({"type": "object", "additionalProperties": false, "properties": {
            "list": {"type": "array", "items": leaf},
            "map": {"type": "object", "additionalProperties": leaf},
        }});
        let expected = json!({"type": "object", "properties": {
            "list": {"type": "array", "items": {"type": "string"}},
            "map": {"type": "object", "additionalProperties": {"type": "string"}},
        }});
        assert_eq!(structural(schema), expected);
    }

    #[test]
    fn what_has_no_structural_form_is_refused_with_its_path() {
        let deep =
            |leaf: Value| json!({"type": "object", "properties": {"spec": {"type": "array", "items": leaf}}});
        assert_eq!(refusal(deep(json!({"description": "any"}))), ".spec: []: a type is missing");
        assert!(refusal(deep(json!({"$ref": "#/x"}))).starts_with(".spec: []: $ref has no structural form"));
        assert!(refusal(deep(json!({"oneOf": [], "type": "object"}))).contains("oneOf"));
        assert!(refusal(deep(json!(true))).contains("must be an object"));
    }

    #[test]
    fn descriptions_are_unwrapped_by_paragraph() {
        let schema = json!({"type": "string", "description": "one\ntwo\n\nthree"});
        assert_eq!(structural(schema)["description"], "one two\n\nthree");
    }
}
