//! The settings of sidecars, which the webhook reads from a ConfigMap.

use serde_json::{Value, json};
use ursa_crds::SidecarRunMode;
use ursa_inject::{ControlPlaneAccess, Settings, SidecarMode};

use super::Source;
use crate::names::Part;

/// The key of the ConfigMap, and the name of the file that it becomes.
pub(crate) const FILE: &str = "settings.yaml";

/// The ConfigMap. The webhook reads it again when it changes: no restart.
pub(super) fn object(source: &Source<'_>, ca_pem: &str) -> Value {
    let sidecar = &source.spec.sidecar;
    let (service, namespace) = (source.names.service(Part::ControlPlane), &source.names.namespace);
    let settings = Settings {
        image: source.spec.dataplane_image.clone().unwrap_or_else(|| source.defaults.dataplane_image.clone()),
        image_pull_policy: source.spec.image_pull_policy.map(|policy| policy.as_str().to_owned()),
        control_plane: ControlPlaneAccess {
            address: format!("https://{service}.{namespace}.svc:5678"),
            ca_pem: ca_pem.to_owned(),
        },
        mode: match sidecar.mode {
            SidecarRunMode::Native => SidecarMode::Native,
            SidecarRunMode::Container => SidecarMode::Container,
        },
        resources: (!sidecar.resources.is_empty()).then(|| sidecar.resources.requirements()),
        log_level: sidecar.log_level.as_str().to_owned(),
    };
    let text = serde_saphyr::to_string(&settings).expect("settings are plain data");
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": source.meta(&source.names.settings()),
        "data": {FILE: text},
    })
}
