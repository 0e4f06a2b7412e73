//! What a ControlPlane asks for: every object, and its status. Pure.
//!
//! Invariant: equal inputs give equal objects in the same order, the one in which they can be applied.

mod deployment;
mod network;
pub mod rbac;
mod service;
pub(crate) mod settings;
mod status;
mod tls;
mod webhooks;

use serde_json::{Value, json};
use ursa_crds::{ControlPlane, ControlPlaneMode, ControlPlaneSpec};

pub(crate) use status::READY;
pub use status::{Condition, Conditions, Status};
pub(crate) use tls::names as certificate_names;
pub use tls::{decode as read_tls, decode_authority as read_authority};
pub(crate) use webhooks::VALIDATION;

use super::observe::{Observed, Tls};
use crate::names::{Names, Part};

/// What the operator decides where a ControlPlane says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// The image of control plane and webhook.
    pub image: String,
    /// The image of sidecars.
    pub dataplane_image: String,
    /// `SERVICEACCOUNT` of the operator in its namespace.
    pub operator_account: String,
}

/// What is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Every object, as server-side apply takes it.
    pub objects: Vec<Value>,
    /// What is told to users once they are applied.
    pub status: Status,
}

/// What the parts of a plan are made from.
pub(crate) struct Source<'a> {
    pub(crate) names: Names,
    pub(crate) uid: &'a str,
    pub(crate) namespace_uid: &'a str,
    pub(crate) spec: &'a ControlPlaneSpec,
    pub(crate) defaults: &'a Defaults,
}

impl Source<'_> {
    /// The image of control plane and webhook.
    pub(crate) fn image(&self) -> &str {
        self.spec.image.as_deref().unwrap_or(&self.defaults.image)
    }

    /// The metadata of an object in the ControlPlane's namespace, which goes with it.
    pub(crate) fn meta(&self, name: &str) -> Value {
        json!({
            "name": name,
            "namespace": self.names.namespace,
            "labels": self.names.labels(),
            "ownerReferences": [{
                "apiVersion": ursa_crds::API_VERSION,
                "kind": "ControlPlane",
                "name": self.names.name,
                "uid": self.uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        })
    }

    /// The metadata of a cluster-scoped object, which the finalizer removes. Who removes the namespace with the operator in
    /// it leaves no one to do so: then it goes with the namespace.
    pub(crate) fn cluster_meta(&self, what: &str) -> Value {
        json!({
            "name": self.names.cluster(what),
            "labels": self.names.labels(),
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Namespace", "name": self.names.namespace, "uid": self.namespace_uid,
            }],
        })
    }

    /// Whether pods of this cluster get sidecars by this control plane.
    pub(crate) fn injects(&self) -> bool {
        self.spec.mode != ControlPlaneMode::Global
    }
}

/// Both parts, in their order.
pub(crate) const PARTS: [Part; 2] = [Part::ControlPlane, Part::Webhook];

/// What is to be for a ControlPlane, given what is seen of it.
pub fn plan(control_plane: &ControlPlane, observed: &Observed, defaults: &Defaults) -> Plan {
    let meta = &control_plane.metadata;
    let source = Source {
        names: Names::new(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        ),
        uid: meta.uid.as_deref().unwrap_or_default(),
        namespace_uid: &observed.namespace_uid,
        spec: &control_plane.spec,
        defaults,
    };
    let mut objects = rbac::objects(&source);
    objects.extend(tls::objects(&source, &observed.tls));
    objects.extend(observed.tls.control_plane_ca().map(|ca| settings::object(&source, ca)));
    for part in PARTS {
        objects.push(service::object(&source, part));
        objects.push(network::policy(&source, part));
        objects.push(network::disruption_budget(&source, part));
        objects.push(deployment::object(&source, part));
    }
    // Before a first replica serves, nothing could be created that the API server would ask it about.
    let configured = observed.configured || observed.webhook.as_ref().is_some_and(|seen| seen.available > 0);
    let webhook_ca = match &observed.tls {
        Tls::SelfMade { .. } => observed.tls.webhook_ca().map(Some),
        // cert-manager's own injector fills the bundle in.
        Tls::CertManager { .. } => Some(None),
    };
    if let Some(ca) = webhook_ca.filter(|_| configured) {
        objects.extend(webhooks::objects(&source, ca));
    }
    let status = status::status(&source, observed, configured, meta.generation.unwrap_or_default());
    Plan { objects, status }
}
