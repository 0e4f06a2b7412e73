//! `/validate`: resources of Ursa, judged as the REST API judges them.

use serde_json::{Map, Value, json};
use ursa_crds::{GROUP, Kind, decode_value};

use crate::review::{FieldError, Request, Verdict};

/// What users write of the metadata; the API server's own fields are not theirs to mend.
const USERS_META: [&str; 4] = ["name", "namespace", "labels", "annotations"];
/// On a copy of another store's object, which has a name of its own: whose copy it is (`ursa-store` writes it).
const ORIGIN: &str = "ursamesh.io/origin";
/// What the API server puts after `generateName` once all webhooks are asked.
const SUFFIX: &str = "abcde";

pub(crate) fn judge(request: &Request) -> Verdict {
    let Request { kind, sub_resource, operation, object, .. } = request;
    let known = kind.group == GROUP && Kind::by_name(&kind.kind).is_some();
    if !known || !sub_resource.is_empty() || !["CREATE", "UPDATE"].contains(&operation.as_str()) {
        return Verdict::Allowed("not-judged");
    }
    let problems = match decode_value(&document(object)) {
        Ok(object) => ursa_policy::validate(&object),
        Err(problem) => vec![problem],
    };
    if problems.is_empty() {
        return Verdict::Allowed("valid");
    }
    let listed: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    Verdict::Refused {
        why: "invalid",
        message: format!("{} {name}: {}", kind.kind, listed.join("; ")),
        fields: problems
            .into_iter()
            .map(|problem| FieldError { field: problem.field, message: problem.message })
            .collect(),
    }
}

/// The object as its user wrote it.
fn document(object: &Value) -> Value {
    let Value::Object(fields) = object else { return object.clone() };
    let mut document: Map<String, Value> = fields.clone();
    document.remove("status");
    let Some(Value::Object(sent)) = fields.get("metadata") else { return Value::Object(document) };
    let mut meta: Map<String, Value> = sent
        .iter()
        .filter(|(name, _)| USERS_META.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if let Some(start) = sent.get("generateName").and_then(Value::as_str)
        && !sent.contains_key("name")
    {
        meta.insert("name".into(), json!(format!("{start}{SUFFIX}")));
    }
    let origin = sent.get("annotations").and_then(|all| all.get(ORIGIN)).and_then(Value::as_str);
    let origin: Option<Value> = origin.and_then(|text| serde_json::from_str(text).ok());
    if let Some(Value::String(name)) = origin.as_ref().and_then(|origin| origin.get("name")) {
        meta.insert("name".into(), json!(name));
    }
    document.insert("metadata".into(), Value::Object(meta));
    Value::Object(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::{GroupKind, GroupResource};

    fn judged(kind: &str, object: Value) -> Verdict {
        judge(&Request {
            uid: "u".into(),
            kind: GroupKind { group: GROUP.into(), kind: kind.into() },
            resource: GroupResource { group: GROUP.into(), resource: kind.to_lowercase() },
            sub_resource: String::new(),
            namespace: "demo".into(),
            operation: "CREATE".into(),
            object,
        })
    }

    fn permission(metadata: Value, sources: Value) -> Value {
        let destinations = json!([{"match": {"ursamesh.io/service": "*"}}]);
        json!({
            "apiVersion": "ursamesh.io/v1alpha1", "kind": "TrafficPermission", "metadata": metadata,
            "spec": {"sources": sources, "destinations": destinations}, "status": {"anything": 1},
        })
    }

    fn all() -> Value {
        json!([{"match": {"ursamesh.io/service": "*"}}])
    }

    #[test]
    fn what_the_api_server_adds_is_not_judged() {
        let meta = json!({
            "generateName": "p-", "namespace": "demo", "uid": "x", "managedFields": [{"newer": 1}], "fieldOfANewerRelease": 1,
        });
        let verdict = judged("TrafficPermission", permission(meta, all()));
        assert!(matches!(verdict, Verdict::Allowed("valid")), "{verdict:?}");
    }

    #[test]
    fn all_problems_are_told_with_their_fields() {
        let sources = json!([{"match": {}}, {"match": {"ursamesh.io/service": "a b"}}]);
        let Verdict::Refused { message, fields, .. } =
            judged("TrafficPermission", permission(json!({"name": "p"}), sources))
        else {
            panic!("it is allowed")
        };
        let names: Vec<&str> = fields.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(names, ["spec.sources[0].match", "spec.sources[1].match"]);
        assert!(
            message.starts_with("TrafficPermission p: spec.sources[0].match: an empty match"),
            "{message}"
        );
    }

    #[test]
    fn an_unknown_field_is_told() {
        let mut object = permission(json!({"name": "p"}), all());
        object["spec"]["sauces"] = json!([]);
        let Verdict::Refused { message, .. } = judged("TrafficPermission", object) else {
            panic!("it is allowed")
        };
        assert_eq!(message, "TrafficPermission p: spec.sauces: unknown field");
    }

    #[test]
    fn a_copy_is_judged_by_the_name_of_what_it_is_a_copy_of() {
        let spec = json!({"mesh": "default", "zone": "east", "dataplane": "web-1"});
        let object = |annotations: Value| {
            json!({
                "apiVersion": "ursamesh.io/v1alpha1", "kind": "DataplaneInsight",
                "metadata": {"name": "copy-0123", "annotations": annotations}, "spec": spec,
            })
        };
        let origin = json!({"name": ursa_crds::DataplaneInsightSpec::name("east", "web-1")}).to_string();
        let copy = judged("DataplaneInsight", object(json!({ORIGIN: origin})));
        assert!(matches!(copy, Verdict::Allowed("valid")), "{copy:?}");
        let other = judged("DataplaneInsight", object(json!({})));
        assert!(matches!(other, Verdict::Refused { .. }), "{other:?}");
    }

    #[test]
    fn kinds_of_others_are_left_to_their_schemas() {
        assert!(matches!(judged("ControlPlane", json!({})), Verdict::Allowed("not-judged")));
    }
}
