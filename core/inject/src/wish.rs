//! Whether a pod is to have a sidecar at all: the pod's label decides, then the namespace's.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::names::INJECTION_LABEL;
use crate::{Cause, Unchanged};

/// Where Kubernetes itself lives: a pod that waits for a sidecar there may be what the sidecar waits for.
pub const SYSTEM_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];
/// On what the kubelet shows of its static pods.
/// Source: <https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-config-mirror>.
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// Why the pod gets no sidecar; `None` if it is to have one.
pub fn without_sidecar(pod: &ObjectMeta, namespace: &ObjectMeta) -> Result<Option<Unchanged>, Cause> {
    if namespace.name.as_deref().is_some_and(|name| SYSTEM_NAMESPACES.contains(&name)) {
        return Ok(Some(Unchanged::SystemNamespace));
    }
    if pod.annotations.as_ref().is_some_and(|all| all.contains_key(MIRROR_ANNOTATION)) {
        return Ok(Some(Unchanged::StaticPod));
    }
    let asked = match asked(pod, "pod")? {
        Some(asked) => Some(asked),
        None => asked(namespace, "namespace")?,
    };
    Ok(match asked {
        Some(true) => None,
        Some(false) => Some(Unchanged::OptedOut),
        None => Some(Unchanged::NotAsked),
    })
}

fn asked(meta: &ObjectMeta, owner: &'static str) -> Result<Option<bool>, Cause> {
    match meta.labels.as_ref().and_then(|labels| labels.get(INJECTION_LABEL)).map(String::as_str) {
        None => Ok(None),
        Some("enabled") => Ok(Some(true)),
        Some("disabled") => Ok(Some(false)),
        Some(value) => Err(Cause::Label { owner, value: value.to_owned() }),
    }
}
