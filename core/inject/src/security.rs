//! What the sidecar's containers may do. Each says all that its pod could say otherwise for them.

use k8s_openapi::api::core::v1::{AppArmorProfile, Capabilities, Pod, SeccompProfile, SecurityContext};

use crate::names::PROXY_UID;

/// Of `ursa-init`: root, with the right to change the pod's network and no other.
pub(crate) fn of_init(pod: &Pod) -> SecurityContext {
    let add = ["NET_ADMIN", "NET_RAW"].map(str::to_owned).to_vec();
    SecurityContext {
        run_as_user: Some(0),
        run_as_group: Some(0),
        run_as_non_root: Some(false),
        capabilities: Some(Capabilities { add: Some(add), drop: Some(vec!["ALL".to_owned()]) }),
        ..restricted(pod)
    }
}

/// Of `ursa-dp`: the user whose traffic is not captured, with no rights.
pub(crate) fn of_sidecar(pod: &Pod) -> SecurityContext {
    SecurityContext {
        run_as_user: Some(PROXY_UID),
        run_as_group: Some(PROXY_UID),
        run_as_non_root: Some(true),
        ..restricted(pod)
    }
}

fn restricted(pod: &Pod) -> SecurityContext {
    SecurityContext {
        privileged: Some(false),
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        app_armor_profile: app_armor(pod),
        ..SecurityContext::default()
    }
}

/// A profile that was written for the application would not let the sidecar work. Where a pod has none, none is asked
/// for either: a node without AppArmor refuses pods that do.
/// Source: <https://kubernetes.io/docs/tutorials/security/apparmor/>.
fn app_armor(pod: &Pod) -> Option<AppArmorProfile> {
    pod.spec.as_ref()?.security_context.as_ref()?.app_armor_profile.as_ref()?;
    Some(AppArmorProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None })
}
