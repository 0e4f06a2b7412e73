//! Names that pods, namespaces and Ursa's parts agree on.

/// On a namespace or a pod: `enabled` or `disabled`; the pod's wins.
pub const INJECTION_LABEL: &str = "ursamesh.io/sidecar-injection";
/// On an injected pod: `injected`.
pub const STATUS_ANNOTATION: &str = "ursamesh.io/sidecar-status";
/// On a pod, or on a namespace for all its pods: the mesh.
pub const MESH_ANNOTATION: &str = "ursamesh.io/mesh";
/// On a pod: its primary service.
pub const SERVICE_ANNOTATION: &str = "ursamesh.io/service";
/// On a pod: tags of its own; [`parse_tags`](crate::parse_tags) reads them.
pub const TAGS_ANNOTATION: &str = "ursamesh.io/tags";
/// The init container that sets up capture.
pub const INIT_CONTAINER: &str = "ursa-init";
/// The proxy and its agent.
pub const SIDECAR_CONTAINER: &str = "ursa-dp";
/// The user that the sidecar runs as; what it sends is not captured.
pub const PROXY_UID: i64 = 5678;

pub(crate) const INIT_PROGRAM: &str = "/usr/local/bin/ursa-init";
/// The agent.
pub const SIDECAR_PROGRAM: &str = "/usr/local/bin/ursa-dp";
pub(crate) const INJECTED: &str = "injected";
pub(crate) const PREFIX: &str = "ursamesh.io/";

/// Where the agent serves health and the probes of other containers.
pub const HEALTH_PORT: u16 = 15021;
/// What listens in an injected pod.
pub(crate) const PROXY_PORTS: [u16; 4] = [15001, 15006, HEALTH_PORT, 15053];

pub(crate) const TOKEN_VOLUME: &str = "ursa-token";
pub(crate) const DATA_VOLUME: &str = "ursa-data";
pub(crate) const RUN_VOLUME: &str = "ursa-run";

/// Whether the container is the sidecar's.
pub(crate) fn is_own(container: &str) -> bool {
    [INIT_CONTAINER, SIDECAR_CONTAINER].contains(&container)
}
