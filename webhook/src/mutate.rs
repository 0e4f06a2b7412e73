//! `/mutate-pods`: new pods get their sidecar. Nothing is kept of a request, so that dry runs are like others.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use ursa_inject::{INJECTION_LABEL, Outcome, inject};

use crate::namespaces::Namespaces;
use crate::review::{Request, Verdict};
use crate::settings::InForce;

/// How long the API server's news of a namespace may take. It gives up on a webhook after 5 s.
const NEWS_BOUND: Duration = Duration::from_secs(2);

/// What pods are judged by.
#[derive(Clone)]
pub(crate) struct Mutator {
    pub(crate) settings: InForce,
    pub(crate) namespaces: Namespaces,
    /// Where Ursa itself runs: the sidecars of its pods would wait for themselves.
    pub(crate) own_namespace: String,
}

impl Mutator {
    pub(crate) async fn judge(&self, request: &Request) -> Verdict {
        let Request { resource, sub_resource, operation, namespace: name, object, .. } = request;
        let is_pod = resource.group.is_empty() && resource.resource == "pods" && sub_resource.is_empty();
        if !is_pod || operation != "CREATE" {
            return Verdict::Allowed("no-new-pod");
        }
        if *name == self.own_namespace {
            return Verdict::Allowed("own-namespace");
        }
        // Whoever sent the pod saw a label on it or on its namespace; this view of the namespace may be older.
        let pod_says =
            object.pointer("/metadata/labels").is_some_and(|labels| !labels[INJECTION_LABEL].is_null());
        let enough = |namespace: &Namespace| pod_says || says(namespace);
        let Some(namespace) = self.namespaces.get(name, enough, NEWS_BOUND).await else {
            return Verdict::Failed {
                why: "unknown-namespace",
                message: format!(
                    "the namespace {name} is not known to ursa-webhook yet: try again; if that does not help, its log says why \
                     it cannot follow namespaces"
                ),
            };
        };
        let Some(settings) = self.settings.borrow().clone() else {
            return Verdict::Failed {
                why: "no-settings",
                message: "ursa-webhook has read no good settings of sidecars yet: its log says why"
                    .to_owned(),
            };
        };
        match inject(object, &namespace, &settings) {
            Ok(Outcome::Unchanged(why)) => Verdict::Allowed(why.label()),
            Ok(Outcome::Patched(patched)) => Verdict::Patched(json_patch::diff(object, &patched)),
            Err(refusal) => Verdict::Refused {
                why: refusal.cause.label(),
                message: refusal.to_string(),
                fields: Vec::new(),
            },
        }
    }
}

fn says(namespace: &Namespace) -> bool {
    namespace.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(INJECTION_LABEL))
}
