//! How a pod gets its sidecar: pod, namespace and settings in, patched pod out. Pure.
//!
//! [`inject`] edits the pod's JSON and leaves every field that it does not know as it is.
//! Invariant: injecting what was injected changes nothing, also after others have edited the pod; of their containers
//! only the probes change.

mod annotations;
mod fit;
mod init;
mod names;
mod outcome;
mod place;
mod probes;
mod quantity;
mod refusal;
mod resources;
mod security;
mod settings;
mod settings_check;
mod sidecar;
mod tags;
mod volumes;
mod wish;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize as _;
use serde_json::Value;

pub use fit::is_injected;
pub use names::{
    INIT_CONTAINER, INJECTION_LABEL, MESH_ANNOTATION, PROXY_UID, SERVICE_ANNOTATION, SIDECAR_CONTAINER,
    STATUS_ANNOTATION, TAGS_ANNOTATION,
};
pub use outcome::{Outcome, Unchanged};
pub use refusal::{Cause, Refusal};
pub use settings::{ControlPlaneAccess, Settings, SidecarMode};
pub use settings_check::SettingsError;
pub use tags::parse_tags;
pub use wish::{SYSTEM_NAMESPACES, without_sidecar};

use annotations::Wishes;

/// What the agent in a pod has where, for those who run one on its own.
pub mod agent {
    pub use crate::names::{HEALTH_PORT, SIDECAR_PROGRAM as PROGRAM};
    pub use crate::volumes::{DATA_DIR, RUN_DIR, TOKEN_FILE, mounts, volumes};
}

/// What becomes of a pod that is to be created in a namespace.
pub fn inject(pod: &Value, namespace: &Namespace, settings: &Settings) -> Result<Outcome, Refusal> {
    decide(pod, namespace, settings).map_err(|cause| {
        let namespace = namespace.metadata.name.as_deref().unwrap_or_default();
        Refusal { pod: refusal::display_name(pod, namespace), cause }
    })
}

fn decide(pod: &Value, namespace: &Namespace, settings: &Settings) -> Result<Outcome, Cause> {
    let unreadable = |error: serde_json::Error| Cause::Unreadable(error.to_string());
    let meta: Option<ObjectMeta> = Option::deserialize(&pod["metadata"]).map_err(unreadable)?;
    if let Some(why) = without_sidecar(&meta.unwrap_or_default(), &namespace.metadata)? {
        return Ok(Outcome::Unchanged(why));
    }
    let seen = Pod::deserialize(pod).map_err(unreadable)?;
    let wishes = Wishes::read(&seen.metadata, &namespace.metadata)?;
    fit::check(&seen, &namespace.metadata)?;
    let injected = is_injected(&seen)?;

    let mut patched = pod.clone();
    if !injected {
        let resources = resources::of_both(&wishes, settings)?;
        let init = init::container(&seen, &wishes, settings, resources.clone());
        let sidecar = sidecar::container(&seen, &wishes, settings, resources);
        place::add(&mut patched, init, sidecar, wishes.mode.unwrap_or(settings.mode));
        volumes::add(&mut patched);
    }
    place::annotate(&mut patched, &seen);
    place::sort(&mut patched);
    probes::rewrite(&mut patched)?;
    if patched == *pod {
        return Ok(Outcome::Unchanged(Unchanged::AlreadyInjected));
    }
    Ok(Outcome::Patched(patched))
}
