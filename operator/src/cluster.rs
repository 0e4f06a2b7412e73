//! Objects of many kinds on the API server: applied by server-side apply, found and removed again.

use kube::Client;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
};
use serde_json::Value;

use crate::names::OPERATOR;

/// The kinds that the operator makes: `apiVersion`, `kind`, plural.
pub const RESOURCES: &[(&str, &str, &str)] = &[
    ("v1", "ServiceAccount", "serviceaccounts"),
    ("v1", "Secret", "secrets"),
    ("v1", "ConfigMap", "configmaps"),
    ("v1", "Service", "services"),
    ("apps/v1", "Deployment", "deployments"),
    ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    ("rbac.authorization.k8s.io/v1", "Role", "roles"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings"),
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions"),
    ("cert-manager.io/v1", "Certificate", "certificates"),
];

/// Why objects are not as they are to be.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Another one has the name.
    #[error("{0} exists and belongs to someone else; rename or remove it")]
    NameTaken(String),
    /// The API server refused it.
    #[error("cannot apply {what}: {source}")]
    Apply {
        /// Kind and name.
        what: String,
        /// Why.
        source: kube::Error,
    },
    /// The API server did not delete it.
    #[error("cannot remove {what}: {source}")]
    Remove {
        /// Kind and name.
        what: String,
        /// Why.
        source: kube::Error,
    },
}

/// Proof that everything of a plan is on the API server.
#[derive(Debug)]
pub struct Applied(());

/// Whose an object is.
#[derive(Clone, Copy, Debug)]
pub enum Ownership<'a> {
    /// Of a resource with this label and this UID; objects of others are left alone.
    Of {
        /// The label's key.
        key: &'a str,
        /// The label's value.
        label: &'a str,
        /// The resource's UID.
        uid: &'a str,
    },
    /// Of all operators: what is there is taken over.
    Shared,
}

impl Ownership<'_> {
    fn holds(self, found: &DynamicObject) -> bool {
        let Self::Of { key, label, uid } = self else { return true };
        let labelled =
            found.metadata.labels.as_ref().and_then(|labels| labels.get(key)).is_some_and(|of| of == label);
        let owners = found.metadata.owner_references.iter().flatten();
        labelled || owners.into_iter().any(|owner| owner.uid == uid)
    }
}

/// Applies all objects in their order. What others wrote into fields of ours is undone; other fields stay theirs.
pub async fn apply(client: &Client, objects: &[Value], of: Ownership<'_>) -> Result<Applied, ApplyError> {
    for object in objects {
        apply_one(client, object, of).await?;
    }
    Ok(Applied(()))
}

async fn apply_one(client: &Client, object: &Value, of: Ownership<'_>) -> Result<(), ApplyError> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (kind, name) = (text("/kind"), text("/metadata/name"));
    let what = format!("{kind} {name}");
    let failed = |source| ApplyError::Apply { what: what.clone(), source };
    let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
    let api = api(client, text("/apiVersion"), kind, namespace);
    let found = api.get_opt(name).await.map_err(failed)?;
    if found.is_some_and(|found| !of.holds(&found)) {
        return Err(ApplyError::NameTaken(what));
    }
    api.patch(name, &PatchParams::apply(OPERATOR).force(), &Patch::Apply(object)).await.map_err(failed)?;
    Ok(())
}

/// Removes the objects of these kinds, which must be cluster-scoped, that the query finds and whose names start so.
pub async fn remove(client: &Client, kinds: &[&str], query: &str, prefix: &str) -> Result<(), ApplyError> {
    for kind in kinds {
        let (version, ..) = RESOURCES.iter().find(|(_, known, _)| known == kind).expect("a kind of the list");
        let api = api(client, version, kind, None);
        let failed = |name: &str, source| ApplyError::Remove { what: format!("{kind} {name}"), source };
        let found = api.list(&ListParams::default().labels(query)).await;
        for object in found.map_err(|source| failed("of the ControlPlane", source))? {
            let name = object.metadata.name.unwrap_or_default();
            if !name.starts_with(prefix) {
                continue;
            }
            match api.delete(&name, &DeleteParams::default()).await {
                Err(source) if !is_gone(&source) => return Err(failed(&name, source)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whether the object is not there any more.
pub(crate) fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

fn api(client: &Client, version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let (.., plural) = RESOURCES.iter().find(|(_, known, _)| *known == kind).expect("a kind of the list");
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}
