//! The container `ursa-init`, which sets up capture before anything else runs.

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, ResourceRequirements};
use ursa_redirect::Ports;

use crate::annotations::Wishes;
use crate::names::{HEALTH_PORT, INIT_CONTAINER, INIT_PROGRAM};
use crate::{Settings, security};

pub(crate) fn container(
    pod: &Pod,
    wishes: &Wishes,
    settings: &Settings,
    resources: Option<ResourceRequirements>,
) -> Container {
    Container {
        name: INIT_CONTAINER.to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: settings.image_pull_policy.clone(),
        command: Some(vec![INIT_PROGRAM.to_owned(), "up".to_owned()]),
        env: Some(env(wishes)),
        resources,
        security_context: Some(security::of_init(pod)),
        // Why capture could not be set up is then told by `kubectl describe`.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

fn env(wishes: &Wishes) -> Vec<EnvVar> {
    let inbound = wishes.exclude_inbound_ports.ranges().iter().copied();
    let inbound: Ports = inbound.chain([ursa_redirect::PortRange::one(HEALTH_PORT)]).collect();
    let all = [
        ("URSA_INIT_EXCLUDE_INBOUND_PORTS", inbound.to_string()),
        ("URSA_INIT_EXCLUDE_OUTBOUND_PORTS", wishes.exclude_outbound_ports.to_string()),
        ("URSA_INIT_EXCLUDE_OUTBOUND_CIDRS", wishes.exclude_outbound_cidrs.to_string()),
    ];
    let set = all.into_iter().filter(|(_, value)| !value.is_empty());
    set.map(|(name, value)| EnvVar { name: name.to_owned(), value: Some(value), ..EnvVar::default() })
        .collect()
}
