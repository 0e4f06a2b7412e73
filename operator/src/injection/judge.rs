//! Which pods should have a sidecar and have none. Pure.
//!
//! Invariant: it judges as the webhook does by what the API server sends it, so that a pod is told of exactly if the webhook
//! would have given it a sidecar.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;

use ursa_inject::{INJECTION_LABEL, is_injected, without_sidecar};

/// The condition of pods.
pub(crate) const CONDITION: &str = "ursamesh.io/InjectionMissing";

/// A pod by namespace and name.
pub(crate) type Key = (String, String);

/// What is kept of a pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SeenPod {
    pub(crate) uid: String,
    meta: ObjectMeta,
    /// Whether nothing is to be said of it: it has a sidecar, cannot have one, or has ended.
    settled: bool,
    /// Whether it carries the condition.
    pub(crate) told: bool,
}

impl SeenPod {
    fn of(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let status = pod.status.clone().unwrap_or_default();
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let told = |condition: &k8s_openapi::api::core::v1::PodCondition| {
            condition.type_ == CONDITION && condition.status == "True"
        };
        Self {
            uid: pod.uid().unwrap_or_default(),
            meta: kept(&pod.metadata),
            settled: is_injected(pod) == Ok(true)
                || spec.and_then(|spec| spec.host_network).unwrap_or_default()
                || ended
                || pod.metadata.deletion_timestamp.is_some(),
            told: status.conditions.iter().flatten().any(told),
        }
    }
}

/// What the judgement is made of: memory for the rest of all pods of a cluster would be much.
fn kept(meta: &ObjectMeta) -> ObjectMeta {
    let labels = meta.labels.iter().flatten().filter(|(key, _)| *key == INJECTION_LABEL);
    // Kubernetes' own, by which static pods are told.
    let annotations =
        meta.annotations.iter().flatten().filter(|(key, _)| key.starts_with("kubernetes.io/config."));
    let owned = |(key, value): (&String, &String)| (key.clone(), value.clone());
    ObjectMeta {
        name: meta.name.clone(),
        labels: Some(labels.map(owned).collect()),
        annotations: Some(annotations.map(owned).collect()),
        ..ObjectMeta::default()
    }
}

/// All pods and namespaces, as far as it matters here.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    /// The operator's own namespace, which is left out.
    own: String,
    /// ControlPlanes that put sidecars into pods. Without any, none is missing.
    pub(crate) injecting: BTreeSet<String>,
    namespaces: BTreeMap<String, ObjectMeta>,
    pods: BTreeMap<Key, SeenPod>,
}

impl Sight {
    /// Nothing is seen yet.
    pub(crate) fn new(own: &str) -> Self {
        Self { own: own.to_owned(), ..Self::default() }
    }

    /// A namespace is as it is here, or gone.
    pub(crate) fn namespace(&mut self, meta: &ObjectMeta, there: bool) {
        let name = meta.name.clone().unwrap_or_default();
        if there {
            self.namespaces.insert(name, kept(meta));
        } else {
            self.namespaces.remove(&name);
        }
    }

    /// A pod is as it is here, or gone.
    pub(crate) fn pod(&mut self, pod: &Pod, there: bool) {
        let key = (pod.namespace().unwrap_or_default(), pod.name_any());
        if there {
            self.pods.insert(key, SeenPod::of(pod));
        } else {
            self.pods.remove(&key);
        }
    }

    /// Keeps only these pods: all that there are.
    pub(crate) fn only(&mut self, listed: &BTreeSet<Key>) {
        self.pods.retain(|key, _| listed.contains(key));
    }

    fn is_missing(&self, (namespace, _): &Key, pod: &SeenPod) -> bool {
        if pod.settled || *namespace == self.own || self.injecting.is_empty() {
            return false;
        }
        let unlabelled = ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() };
        let meta = self.namespaces.get(namespace).unwrap_or(&unlabelled);
        matches!(without_sidecar(&pod.meta, meta), Ok(None))
    }

    /// How many pods should have a sidecar and have none.
    pub(crate) fn missing(&self) -> usize {
        self.pods.iter().filter(|(key, pod)| self.is_missing(key, pod)).count()
    }

    /// Pods whose condition is not what it is to be, with that.
    pub(crate) fn untold(&self) -> Vec<(Key, SeenPod, bool)> {
        self.pods
            .iter()
            .map(|(key, pod)| (key.clone(), pod.clone(), self.is_missing(key, pod)))
            .filter(|(_, pod, missing)| pod.told != *missing)
            .collect()
    }

    /// The pod carries the condition now, or does not.
    pub(crate) fn is_told(&mut self, key: &Key, told: bool) {
        if let Some(pod) = self.pods.get_mut(key) {
            pod.told = told;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sight(label: Option<&str>) -> Sight {
        let mut sight =
            Sight { own: "ursa-system".into(), injecting: ["ursa".to_owned()].into(), ..Sight::default() };
        for name in ["shop", "kube-system", "ursa-system"] {
            let labels = label.map(|label| json!({INJECTION_LABEL: label}));
            sight.namespace(&serde_json::from_value(json!({"name": name, "labels": labels})).unwrap(), true);
        }
        sight
    }

    fn pod(namespace: &str, label: Option<&str>, spec: Value) -> Pod {
        let labels = label.map(|label| json!({INJECTION_LABEL: label}));
        let metadata = json!({"name": "app", "namespace": namespace, "uid": "1", "labels": labels});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn plain() -> Value {
        json!({"containers": [{"name": "app"}]})
    }

    fn missing(mut sight: Sight, pod: Pod) -> bool {
        sight.pod(&pod, true);
        sight.missing() == 1
    }

    #[test]
    fn the_pods_label_counts_before_that_of_its_namespace() {
        assert!(missing(sight(Some("enabled")), pod("shop", None, plain())));
        assert!(missing(sight(None), pod("shop", Some("enabled"), plain())));
        assert!(missing(sight(Some("disabled")), pod("shop", Some("enabled"), plain())));
        assert!(!missing(sight(Some("enabled")), pod("shop", Some("disabled"), plain())));
        assert!(!missing(sight(None), pod("shop", None, plain())));
    }

    #[test]
    fn a_pod_that_has_a_sidecar_or_cannot_have_one_misses_none() {
        let enabled = || sight(Some("enabled"));
        let program = |name: &str| json!({"name": name, "command": [format!("/usr/local/bin/{name}")]});
        let (init, sidecar) = (program("ursa-init"), program("ursa-dp"));
        let native = json!({"containers": [{"name": "app"}], "initContainers": [init, sidecar]});
        assert!(!missing(enabled(), pod("shop", None, native)));
        let beside = json!({"containers": [sidecar, {"name": "app"}], "initContainers": [init]});
        assert!(!missing(enabled(), pod("shop", None, beside)));
        let half = json!({"containers": [sidecar, {"name": "app"}]});
        assert!(missing(enabled(), pod("shop", None, half)));
        let host = json!({"containers": [{"name": "app"}], "hostNetwork": true});
        assert!(!missing(enabled(), pod("shop", None, host)));
        for namespace in ["kube-system", "ursa-system"] {
            assert!(!missing(enabled(), pod(namespace, None, plain())));
        }
        let mut ended = pod("shop", None, plain());
        ended.status = serde_json::from_value(json!({"phase": "Succeeded"})).unwrap();
        assert!(!missing(enabled(), ended));
        assert!(!missing(Sight { injecting: BTreeSet::new(), ..enabled() }, pod("shop", None, plain())));
    }

    #[test]
    fn a_pod_is_told_once_and_again_when_its_namespace_asks_no_more() {
        let mut sight = sight(Some("enabled"));
        sight.pod(&pod("shop", None, plain()), true);
        let (key, _, missing) = sight.untold().remove(0);
        assert!(missing);
        sight.is_told(&key, true);
        assert!(sight.untold().is_empty());
        sight.namespace(&serde_json::from_value(json!({"name": "shop"})).unwrap(), true);
        assert!(matches!(sight.untold().as_slice(), [(_, _, false)]));
    }
}
