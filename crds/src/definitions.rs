//! The custom resource definitions of all kinds, as Kubernetes takes them.
//!
//! Invariant: equal types give equal definitions, with their keys in order, whatever features other crates turn on.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, ValidationRule,
};
use serde_json::Value;

use crate::structural::{NotStructural, make_structural};
use crate::{KINDS, Kind, control_plane};

/// A kind that the operator acts on: the cluster's own, kept in no store and sent to no zone.
#[derive(Debug)]
pub struct OperatorKind {
    /// As `kind` says it in a resource.
    pub name: &'static str,
    /// Lower-case plural.
    pub plural: &'static str,
    /// Lower-case singular.
    pub singular: &'static str,
    /// The custom resource definition as the types give it.
    pub crd: fn() -> CustomResourceDefinition,
}

/// Every kind of the operator.
pub const OPERATOR_KINDS: &[OperatorKind] = &[OperatorKind {
    name: "ControlPlane",
    plural: "controlplanes",
    singular: "controlplane",
    crd: control_plane::definition,
}];

/// The definition with a rule for the whole object, such as for names, which the types cannot carry: CEL, and what is told to
/// whom it refuses.
pub(crate) fn with_rule(
    mut crd: CustomResourceDefinition,
    rule: &str,
    message: &str,
) -> CustomResourceDefinition {
    let rule = ValidationRule {
        rule: rule.to_owned(),
        message: Some(message.to_owned()),
        ..ValidationRule::default()
    };
    let schemas = crd.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut());
    for schema in schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut()) {
        schema.x_kubernetes_validations = Some(vec![rule.clone()]);
    }
    crd
}

/// A definition in the form of a file.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The kind's lower-case singular.
    pub singular: &'static str,
    /// The definition.
    pub value: Value,
}

/// The definitions of all kinds that are custom resources: those of the mesh, then those of the operator.
pub fn definitions() -> Result<Vec<Definition>, NotStructural> {
    // On Kubernetes its own Secrets hold what nobody may read back.
    let mesh = KINDS.iter().filter(|info| info.kind != Kind::Secret).map(|info| (info.singular, info.crd));
    let operator = OPERATOR_KINDS.iter().map(|kind| (kind.singular, kind.crd));
    mesh.chain(operator)
        .map(|(singular, crd)| Ok(Definition { singular, value: structural(&crd())? }))
        .collect()
}

fn structural(crd: &CustomResourceDefinition) -> Result<Value, NotStructural> {
    let mut definition = serde_json::to_value(crd).expect("definitions are plain data");
    let versions = definition.pointer_mut("/spec/versions").and_then(Value::as_array_mut);
    for version in versions.expect("kube's derive writes one version") {
        let found = version.pointer_mut("/schema/openAPIV3Schema").expect("kube's derive writes a schema");
        make_structural(found).map_err(|error| error.at(&crd.spec.names.kind))?;
    }
    Ok(sorted(definition))
}

/// With the keys of each object in order: serde_json keeps either this order or that of insertion, by feature.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let map: BTreeMap<String, Value> =
                map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(map.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_structural_definition_that_agrees_with_its_names() {
        let definitions = definitions().unwrap();
        assert_eq!(definitions.len(), KINDS.len() - 1 + OPERATOR_KINDS.len());
        for definition in &definitions {
            let names = &definition.value["spec"]["names"];
            assert_eq!(names["singular"], definition.singular);
            assert_eq!(
                definition.value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["type"],
                "object"
            );
        }
        for kind in OPERATOR_KINDS {
            let names = (kind.crd)().spec.names;
            assert_eq!((names.kind.as_str(), names.plural.as_str()), (kind.name, kind.plural));
            assert_eq!(names.singular.as_deref(), Some(kind.singular));
        }
    }
}
