//! Names and labels of what the operator makes.
//!
//! Invariant: names of cluster-scoped objects start with the namespace and name of their ControlPlane, so that no two
//! ControlPlanes share one, and the ControlPlane can be told from the name alone.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The field manager of the operator, and who manages what it makes.
pub const OPERATOR: &str = "ursa-operator";
/// Label: the ControlPlane that an object belongs to.
pub const CONTROL_PLANE: &str = "ursamesh.io/control-plane";
/// Label: the ZoneIngress that an object belongs to.
pub const ZONE_INGRESS: &str = "ursamesh.io/zone-ingress";
/// Label: whether pods get a sidecar.
pub const INJECTION: &str = ursa_inject::INJECTION_LABEL;
/// Label: who manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

const SETTINGS: &str = "-sidecar";

/// A part that runs in pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The control plane.
    ControlPlane,
    /// The webhook.
    Webhook,
}

impl Part {
    /// The program.
    pub fn program(self) -> &'static str {
        match self {
            Self::ControlPlane => "ursa-cp",
            Self::Webhook => "ursa-webhook",
        }
    }
}

/// The names of what belongs to a ControlPlane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The namespace.
    pub namespace: String,
    /// The ControlPlane's name.
    pub name: String,
}

impl Names {
    /// Of a ControlPlane.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Of the ControlPlane that a cluster-scoped object belongs to, by its name.
    pub fn of_cluster_object(name: &str) -> Option<Self> {
        let mut parts = name.splitn(3, '.');
        let (namespace, name, _) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self::new(namespace, name))
    }

    /// Deployment, ServiceAccount and the like of a part.
    pub fn part(&self, part: Part) -> String {
        match part {
            Part::ControlPlane => format!("{}-cp", self.name),
            Part::Webhook => format!("{}-webhook", self.name),
        }
    }

    /// The Service of a part.
    pub fn service(&self, part: Part) -> String {
        match part {
            Part::ControlPlane => self.name.clone(),
            Part::Webhook => self.part(part),
        }
    }

    /// The Secret with certificate, key and bundle of a part.
    pub fn tls(&self, part: Part) -> String {
        format!("{}-tls", self.part(part))
    }

    /// The Secret with the authority's key. No pod mounts it.
    pub fn authority(&self) -> String {
        ursa_crds::authority_secret(&self.name)
    }

    /// The ConfigMap with the settings of sidecars.
    pub fn settings(&self) -> String {
        format!("{}{SETTINGS}", self.name)
    }

    /// The name of the ControlPlane whose settings a ConfigMap of this name holds.
    pub fn of_settings(config_map: &str) -> Option<&str> {
        config_map.strip_suffix(SETTINGS)
    }

    /// A cluster-scoped object.
    pub fn cluster(&self, what: &str) -> String {
        format!("{}.{}.{what}", self.namespace, self.name)
    }

    /// The DNS name of a part that is the same in every cluster.
    pub fn host(&self, part: Part) -> String {
        format!("{}.{}.svc", self.service(part), self.namespace)
    }

    /// The DNS names of a part, as certificates hold them.
    pub fn hosts(&self, part: Part) -> Vec<String> {
        let service = self.service(part);
        let local = self.host(part);
        vec![
            service.clone(),
            format!("{service}.{}", self.namespace),
            local.clone(),
            format!("{local}.cluster.local"),
        ]
    }

    /// The value of the label [`CONTROL_PLANE`]: at most 63 characters.
    pub fn label(&self) -> String {
        label(&self.namespace, &self.name)
    }

    /// The labels of everything, by which it is found again.
    pub fn labels(&self) -> BTreeMap<String, String> {
        labels(CONTROL_PLANE, self.label())
    }

    /// The labels by which the pods of a part are selected. They never change.
    pub fn selector(&self, part: Part) -> Value {
        json!({"app.kubernetes.io/name": part.program(), "app.kubernetes.io/instance": self.name})
    }

    /// Finds everything of the ControlPlane.
    pub fn query(&self) -> String {
        format!("{MANAGED_BY}={OPERATOR},{CONTROL_PLANE}={}", self.label())
    }
}

/// The names of what belongs to a ZoneIngress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressNames {
    /// The namespace.
    pub namespace: String,
    /// The ZoneIngress's name.
    pub name: String,
}

impl IngressNames {
    /// Of a ZoneIngress.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Everything that belongs to it: one object of a kind.
    pub fn object(&self) -> String {
        ursa_crds::ingress_account(&self.name)
    }

    /// The value of the label [`ZONE_INGRESS`]: at most 63 characters.
    pub fn label(&self) -> String {
        label(&self.namespace, &self.name)
    }

    /// The labels of everything.
    pub fn labels(&self) -> BTreeMap<String, String> {
        labels(ZONE_INGRESS, self.label())
    }

    /// The labels by which its pods are selected. They never change.
    pub fn selector(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("app.kubernetes.io/name".to_owned(), "ursa-ingress".to_owned()),
            ("app.kubernetes.io/instance".to_owned(), self.name.clone()),
        ])
    }
}

fn labels(key: &str, owner: String) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MANAGED_BY.to_owned(), OPERATOR.to_owned()),
        ("app.kubernetes.io/part-of".to_owned(), "ursa".to_owned()),
        (key.to_owned(), owner),
    ])
}

fn label(namespace: &str, name: &str) -> String {
    let full = format!("{namespace}.{name}");
    if full.len() <= 63 {
        return full;
    }
    let digest = Sha256::digest(full.as_bytes());
    let hash = digest.iter().take(4).fold(0_u32, |hash, byte| hash << 8 | u32::from(*byte));
    format!("{}-{hash:08x}", full[..54].trim_end_matches(['-', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_object_leads_back_to_its_control_plane() {
        let names = Names::new("mesh-a", "ursa");
        assert_eq!(Names::of_cluster_object(&names.cluster("ursa-cp")), Some(names));
        assert_eq!(Names::of_cluster_object("cluster-admin"), None);
    }

    #[test]
    fn the_control_plane_knows_the_secret_with_its_certificate() {
        assert_eq!(Names::new("mesh-a", "ursa").tls(Part::ControlPlane), ursa_crds::tls_secret("ursa"));
    }

    #[test]
    fn labels_of_long_names_are_short_and_differ() {
        let long = "n".repeat(63);
        let (one, two) = (Names::new(&long, "one").label(), Names::new(&long, "two").label());
        assert!(one.len() <= 63 && two.len() <= 63 && one != two);
        assert_eq!(Names::new("ursa-system", "ursa").label(), "ursa-system.ursa");
    }
}
