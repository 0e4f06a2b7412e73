//! The sidecar's volumes: its token, its data, and its sockets.

use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, ProjectedVolumeSource, ServiceAccountTokenProjection, Volume, VolumeMount,
    VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::Value;

use crate::names::{DATA_VOLUME, RUN_VOLUME, TOKEN_VOLUME};
use crate::place;

/// Tokens that a sidecar shows a control plane are for nobody else.
const AUDIENCE: &str = "ursamesh.io";
const TOKEN_SECONDS: i64 = 3600;

/// The token that proves who the pod is.
pub const TOKEN_FILE: &str = "/var/run/secrets/ursamesh.io/token";
/// What outlives a restart. Below the mounts, as the agent wants folders that are its own alone.
pub const DATA_DIR: &str = "/var/lib/ursa-dp/data";
/// Sockets.
pub const RUN_DIR: &str = "/run/ursa-dp/run";

pub(crate) fn add(pod: &mut Value) {
    let volumes = place::list(&mut pod["spec"], "volumes");
    volumes.extend(self::volumes().iter().map(place::value));
}

/// The token, the data and the sockets.
pub fn volumes() -> Vec<Volume> {
    vec![token(), data(), run()]
}

/// Where they are in the agent's container.
pub fn mounts() -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    };
    vec![
        VolumeMount { read_only: Some(true), ..mount(TOKEN_VOLUME, "/var/run/secrets/ursamesh.io") },
        mount(DATA_VOLUME, "/var/lib/ursa-dp"),
        mount(RUN_VOLUME, "/run/ursa-dp"),
    ]
}

fn token() -> Volume {
    let projection = ServiceAccountTokenProjection {
        audience: Some(AUDIENCE.to_owned()),
        expiration_seconds: Some(TOKEN_SECONDS),
        path: "token".to_owned(),
    };
    Volume {
        name: TOKEN_VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(vec![VolumeProjection {
                service_account_token: Some(projection),
                ..VolumeProjection::default()
            }]),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn data() -> Volume {
    Volume {
        name: DATA_VOLUME.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    }
}

/// In memory, where sockets and what is secret leave no trace on the node's disk.
fn run() -> Volume {
    let empty_dir = EmptyDirVolumeSource {
        medium: Some("Memory".to_owned()),
        size_limit: Some(Quantity("16Mi".to_owned())),
    };
    Volume { name: RUN_VOLUME.to_owned(), empty_dir: Some(empty_dir), ..Volume::default() }
}
