//! `/validate`: resources of Ursa, judged as the REST API judges them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use ursa_crds::{GROUP, Kind, Object, ObjectKey, Owner, Problem, decode_value};

use crate::meshes::{Meshes, Seen};
use crate::review::{FieldError, Request, Verdict};

/// How long the API server's news of a mesh may take. It gives up on a webhook after 5 s.
const NEWS_BOUND: Duration = Duration::from_secs(2);

/// What users write of the metadata; the API server's own fields are not theirs to mend.
const USERS_META: [&str; 4] = ["name", "namespace", "labels", "annotations"];
/// On a copy of another store's object, which has a name of its own: whose copy it is (`ursa-store` writes it).
const ORIGIN: &str = "ursamesh.io/origin";
/// What the API server puts after `generateName` once all webhooks are asked.
const SUFFIX: &str = "abcde";

/// What resources are judged by.
#[derive(Clone)]
pub(crate) struct Validator {
    pub(crate) meshes: Meshes,
    /// Of Ursa itself: only there copies are control planes'.
    pub(crate) own_namespace: String,
    /// In a zone: where its global control plane is.
    pub(crate) global: Option<String>,
}

impl Validator {
    pub(crate) async fn judge(&self, request: &Request) -> Verdict {
        let Request { kind, sub_resource, operation, object, .. } = request;
        let Some(known) =
            Kind::by_name(&kind.kind).filter(|_| kind.group == GROUP && sub_resource.is_empty())
        else {
            return Verdict::Allowed("not-judged");
        };
        if let Some(global) = &self.global
            && let Some(reason) = foreign(known, request, global)
        {
            return Verdict::Refused { why: "foreign", message: reason, fields: Vec::new() };
        }
        if known.info().owner == Owner::Zone || !["CREATE", "UPDATE"].contains(&operation.as_str()) {
            return Verdict::Allowed("not-judged");
        }
        let problems = match decode_value(&document(object)) {
            Ok(decoded) if self.is_taken_already(object) => ursa_policy::validate(&decoded),
            Ok(decoded) => match self.problems(&decoded).await {
                Ok(problems) => problems,
                Err(verdict) => return verdict,
            },
            Err(problem) => vec![problem],
        };
        if problems.is_empty() { Verdict::Allowed("valid") } else { refused(&kind.kind, object, problems) }
    }

    /// Whether it was judged when it was written: it is a copy of another store's, or only waits for its end. What it depends
    /// on may have changed since.
    fn is_taken_already(&self, object: &Value) -> bool {
        let meta = &object["metadata"];
        let is_copy = is_copy(object) && meta["namespace"] == self.own_namespace;
        is_copy || !meta["deletionTimestamp"].is_null()
    }

    /// What is wrong with it. What it depends on may have come only just now.
    async fn problems(&self, object: &Object) -> Result<Vec<Problem>, Verdict> {
        let alone = ursa_policy::validate(object);
        // Nothing else decides whether it is valid.
        if !alone.is_empty() || ursa_policy::validate_among(object, |_| None).is_empty() {
            return Ok(alone);
        }
        let name = object.spec.mesh().unwrap_or_default();
        let key = ObjectKey::mesh(name);
        let among = |mesh: Option<&Arc<Object>>| {
            ursa_policy::validate_among(object, |wanted| mesh.filter(|_| *wanted == key).cloned())
        };
        let enough = |mesh: &Arc<Object>| among(Some(mesh)).is_empty();
        match self.meshes.get(name, enough, NEWS_BOUND).await {
            Seen::Mesh(mesh) => Ok(among(Some(&mesh))),
            Seen::None => Ok(among(None)),
            Seen::Unknown => Err(Verdict::Failed {
                why: "unknown-meshes",
                message: "the meshes are not known to ursa-webhook yet: try again; if that does not help, its log says why \
                          it cannot follow meshes"
                    .to_owned(),
            }),
        }
    }
}

/// Why an object is not a user's to write or delete in a zone: it belongs to global, or is a copy of what another zone owns.
fn foreign(kind: Kind, request: &Request, global: &str) -> Option<String> {
    let owner = match kind.info().owner {
        Owner::Global | Owner::GlobalOnly => {
            format!("to the global control plane ({global}): change it there")
        }
        Owner::Zone if is_copy(&request.object) || is_copy(&request.old_object) => {
            "to another zone, and is changed there only".to_owned()
        }
        _ => return None,
    };
    let object = if request.old_object.is_null() { &request.object } else { &request.old_object };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Some(format!("{kind} {name} belongs {owner}; in this zone it is a copy"))
}

fn is_copy(object: &Value) -> bool {
    !object["metadata"]["annotations"][ORIGIN].is_null()
}

fn refused(kind: &str, object: &Value, problems: Vec<Problem>) -> Verdict {
    let listed: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    Verdict::Refused {
        why: "invalid",
        message: format!("{kind} {name}: {}", listed.join("; ")),
        fields: problems
            .into_iter()
            .map(|problem| FieldError { field: problem.field, message: problem.message })
            .collect(),
    }
}

/// The object as its user wrote it.
pub(crate) fn document(object: &Value) -> Value {
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

    const SYSTEM: &str = "ursa-system";

    fn request(kind: &str, operation: &str, object: Value, old_object: Value) -> Request {
        Request {
            uid: "u".into(),
            kind: GroupKind { group: GROUP.into(), kind: kind.into() },
            resource: GroupResource { group: GROUP.into(), resource: kind.to_lowercase() },
            sub_resource: String::new(),
            namespace: "demo".into(),
            operation: operation.into(),
            object,
            old_object,
        }
    }

    async fn judged(kind: &str, object: Value) -> Verdict {
        let mesh = |name: &str, spec: Value| json!({"metadata": {"name": name, "uid": "m"}, "spec": spec});
        let meshes = Meshes::of(&[
            mesh("default", json!({"identityTags": [{"key": "team"}], "routing": {}, "networking": {}})),
            mesh("newer", json!({"fieldOfANewerRelease": 1})),
        ]);
        let request = request(kind, "CREATE", object, Value::Null);
        Validator { meshes, own_namespace: SYSTEM.into(), global: None }.judge(&request).await
    }

    #[tokio::test]
    async fn in_a_zone_users_write_nothing_that_belongs_to_others() {
        let judged = async |kind: &str, operation: &str, object: Value, old_object: Value| {
            let request = request(kind, operation, object, old_object);
            let global = Some("https://global.example:5685".to_owned());
            let validator = Validator { meshes: Meshes::of(&[]), own_namespace: SYSTEM.into(), global };
            match validator.judge(&request).await {
                Verdict::Allowed(why) => why.to_owned(),
                Verdict::Refused { message, .. } => message,
                verdict => panic!("{verdict:?}"),
            }
        };
        let own = || permission(json!({"name": "p", "namespace": "demo"}), all());
        let copy = |kind: &str| {
            let annotations = json!({ORIGIN: json!({"name": "p"}).to_string()});
            json!({"kind": kind, "metadata": {"name": "copy-1", "annotations": annotations}})
        };
        for (operation, object, old, name) in [
            ("CREATE", own(), Value::Null, "p"),
            ("UPDATE", own(), copy("TrafficPermission"), "copy-1"),
            ("DELETE", Value::Null, copy("TrafficPermission"), "copy-1"),
        ] {
            let told = judged("TrafficPermission", operation, object, old).await;
            let expected = format!(
                "TrafficPermission {name} belongs to the global control plane (https://global.example:5685)"
            );
            assert!(told.starts_with(&expected), "{told}");
        }
        let deleted = judged("ZoneIngress", "DELETE", Value::Null, copy("ZoneIngress")).await;
        assert!(deleted.contains("belongs to another zone"), "{deleted}");
        let ingress = json!({"kind": "ZoneIngress", "metadata": {"name": "ingress"}});
        assert_eq!(judged("ZoneIngress", "DELETE", Value::Null, ingress.clone()).await, "not-judged");
        assert_eq!(judged("ZoneIngress", "CREATE", ingress, Value::Null).await, "not-judged");
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

    #[tokio::test]
    async fn what_the_api_server_adds_is_not_judged() {
        let meta = json!({
            "generateName": "p-", "namespace": "demo", "uid": "x", "managedFields": [{"newer": 1}], "fieldOfANewerRelease": 1,
        });
        let verdict = judged("TrafficPermission", permission(meta, all())).await;
        assert!(matches!(verdict, Verdict::Allowed("valid")), "{verdict:?}");
    }

    #[tokio::test]
    async fn all_problems_are_told_with_their_fields() {
        let sources = json!([{"match": {}}, {"match": {"ursamesh.io/service": "a b"}}]);
        let Verdict::Refused { message, fields, .. } =
            judged("TrafficPermission", permission(json!({"name": "p"}), sources)).await
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

    #[tokio::test]
    async fn an_unknown_field_is_told() {
        let mut object = permission(json!({"name": "p"}), all());
        object["spec"]["sauces"] = json!([]);
        let Verdict::Refused { message, .. } = judged("TrafficPermission", object).await else {
            panic!("it is allowed")
        };
        assert_eq!(message, "TrafficPermission p: spec.sauces: unknown field");
    }

    #[tokio::test]
    async fn a_copy_is_judged_by_the_name_of_what_it_is_a_copy_of() {
        let spec = json!({"mesh": "default", "zone": "east", "dataplane": "web-1"});
        let object = |annotations: Value| {
            json!({
                "apiVersion": "ursamesh.io/v1alpha1", "kind": "DataplaneInsight",
                "metadata": {"name": "copy-0123", "annotations": annotations}, "spec": spec,
            })
        };
        let origin = json!({"name": ursa_crds::DataplaneInsightSpec::name("east", "web-1")}).to_string();
        let copy = judged("DataplaneInsight", object(json!({ORIGIN: origin}))).await;
        assert!(matches!(copy, Verdict::Allowed("valid")), "{copy:?}");
        let other = judged("DataplaneInsight", object(json!({}))).await;
        assert!(matches!(other, Verdict::Refused { .. }), "{other:?}");
    }

    #[tokio::test]
    async fn a_source_is_by_tags_that_the_mesh_declares_unless_it_was_judged_before() {
        let by = |mesh: &str, key: &str, meta: Value| {
            let mut object = permission(meta, json!([{"match": {key: "x"}}]));
            object["spec"]["mesh"] = json!(mesh);
            judged("TrafficPermission", object)
        };
        let plain = || json!({"name": "p"});
        assert!(matches!(by("default", "team", plain()).await, Verdict::Allowed("valid")));
        for (mesh, key) in [("default", "color"), ("newer", "team"), ("missing", "team")] {
            let Verdict::Refused { message, fields, .. } = by(mesh, key, plain()).await else {
                panic!("{mesh} {key}: it is allowed")
            };
            assert_eq!(fields[0].field, "spec.sources[0].match");
            let advice = format!("Mesh {mesh} spec.identityTags: [{{key: {key}}}]");
            assert!(message.contains(&advice), "{message}");
        }
        let origin = json!({"name": "p"}).to_string();
        let copy = |namespace: &str| json!({"name": "copy-1", "namespace": namespace, "annotations": {ORIGIN: origin}});
        let claimed = by("default", "color", copy("demo")).await;
        assert!(matches!(claimed, Verdict::Refused { .. }), "anybody can write an annotation: {claimed:?}");
        let ending = json!({"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"});
        for meta in [copy(SYSTEM), ending] {
            let verdict = by("default", "color", meta).await;
            assert!(matches!(verdict, Verdict::Allowed("valid")), "{verdict:?}");
        }
    }

    #[tokio::test]
    async fn kinds_of_others_are_left_to_their_schemas() {
        assert!(matches!(judged("ControlPlane", json!({})).await, Verdict::Allowed("not-judged")));
    }
}
