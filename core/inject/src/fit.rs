//! Whether a pod can take a sidecar, and whether it has one.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::Cause;
use crate::names::{
    DATA_VOLUME, INIT_CONTAINER, INIT_PROGRAM, PROXY_PORTS, PROXY_UID, RUN_VOLUME, SIDECAR_CONTAINER,
    SIDECAR_PROGRAM, TOKEN_VOLUME, is_own,
};

/// Source: <https://kubernetes.io/docs/concepts/security/pod-security-admission/>.
const POD_SECURITY_LABEL: &str = "pod-security.kubernetes.io/enforce";

/// What holds before and after injection.
pub(crate) fn check(pod: &Pod, namespace: &ObjectMeta) -> Result<(), Cause> {
    let spec = spec(pod)?;
    if spec.host_network == Some(true) {
        return Err(Cause::HostNetwork);
    }
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return Err(Cause::Windows);
    }
    pod_security(namespace)?;
    if spec.security_context.as_ref().and_then(|context| context.run_as_user) == Some(PROXY_UID) {
        return Err(Cause::ProxyUser { what: "the pod".to_owned() });
    }
    containers(spec).filter(|container| !is_own(&container.name)).try_for_each(foreign)
}

/// Whether it has its sidecar already. What the pod says of itself does not count: a copy may have lost its annotations,
/// and a template may have too many.
pub fn is_injected(pod: &Pod) -> Result<bool, Cause> {
    let spec = spec(pod)?;
    let has = |name: &str, program: &str| {
        let runs =
            |container: &Container| container.command.iter().flatten().next().is_some_and(|it| it == program);
        containers(spec).any(|container| container.name == name && runs(container))
    };
    match (has(INIT_CONTAINER, INIT_PROGRAM), has(SIDECAR_CONTAINER, SIDECAR_PROGRAM)) {
        (true, true) => Ok(true),
        (false, true) => Err(Cause::HalfInjected { missing: INIT_CONTAINER }),
        (true, false) => Err(Cause::HalfInjected { missing: SIDECAR_CONTAINER }),
        (false, false) => names_are_free(spec).map(|()| false),
    }
}

fn names_are_free(spec: &PodSpec) -> Result<(), Cause> {
    if let Some(container) = containers(spec).find(|container| is_own(&container.name)) {
        return Err(Cause::NameTaken { what: "container", name: container.name.clone() });
    }
    let own = [TOKEN_VOLUME, DATA_VOLUME, RUN_VOLUME];
    match spec.volumes.iter().flatten().find(|volume| own.contains(&volume.name.as_str())) {
        Some(volume) => Err(Cause::NameTaken { what: "volume", name: volume.name.clone() }),
        None => Ok(()),
    }
}

fn spec(pod: &Pod) -> Result<&PodSpec, Cause> {
    pod.spec.as_ref().ok_or_else(|| Cause::Unreadable("spec is missing".to_owned()))
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn pod_security(namespace: &ObjectMeta) -> Result<(), Cause> {
    match namespace.labels.as_ref().and_then(|labels| labels.get(POD_SECURITY_LABEL)) {
        Some(level) if ["baseline", "restricted"].contains(&level.as_str()) => Err(Cause::PodSecurity {
            namespace: namespace.name.clone().unwrap_or_default(),
            level: level.clone(),
        }),
        _ => Ok(()),
    }
}

fn foreign(container: &Container) -> Result<(), Cause> {
    if container.security_context.as_ref().and_then(|context| context.run_as_user) == Some(PROXY_UID) {
        return Err(Cause::ProxyUser { what: format!("the container {}", container.name) });
    }
    let taken = |port: &i32| PROXY_PORTS.iter().any(|own| i32::from(*own) == *port);
    match container.ports.iter().flatten().map(|port| port.container_port).find(taken) {
        Some(port) => Err(Cause::PortTaken { container: container.name.clone(), port }),
        None => Ok(()),
    }
}
