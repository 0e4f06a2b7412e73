//! The container `ursa-dp`: the proxy and its agent.

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, ObjectFieldSelector, Pod, Probe,
    ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::annotations::Wishes;
use crate::names::{HEALTH_PORT, SIDECAR_CONTAINER, SIDECAR_PROGRAM};
use crate::{Settings, security, volumes};

const DEFAULT_CONCURRENCY: u32 = 2;

pub(crate) fn container(
    pod: &Pod,
    wishes: &Wishes,
    settings: &Settings,
    resources: Option<ResourceRequirements>,
) -> Container {
    Container {
        name: SIDECAR_CONTAINER.to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: settings.image_pull_policy.clone(),
        command: Some(vec![SIDECAR_PROGRAM.to_owned(), "run".to_owned()]),
        env: Some(env(wishes, settings)),
        ports: Some(vec![ContainerPort {
            name: Some("ursa-health".to_owned()),
            container_port: HEALTH_PORT.into(),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources,
        security_context: Some(security::of_sidecar(pod)),
        // Until it serves, nothing of the pod starts (native) or is ready; images may have to be pulled by others first.
        startup_probe: Some(Probe { timeout_seconds: Some(2), ..ready(1, 600) }),
        readiness_probe: Some(ready(5, 3)),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(volumes::mounts()),
        ..Container::default()
    }
}

fn ready(period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some("/ready".to_owned()),
            port: IntOrString::Int(HEALTH_PORT.into()),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn env(wishes: &Wishes, settings: &Settings) -> Vec<EnvVar> {
    let text = |name: &str, value: String| EnvVar {
        name: name.to_owned(),
        // The kubelet would put other variables in place of $(NAME).
        value: Some(value.replace('$', "$$")),
        ..EnvVar::default()
    };
    let field = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: path.to_owned(),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let log_level = wishes.log_level.as_ref().unwrap_or(&settings.log_level);
    let concurrency = wishes.concurrency.unwrap_or(DEFAULT_CONCURRENCY);
    let mut env = vec![
        text("URSA_DP_MESH", wishes.mesh.clone()),
        field("URSA_DP_POD_NAME", "metadata.name"),
        field("URSA_DP_POD_NAMESPACE", "metadata.namespace"),
        field("URSA_DP_POD_IPS", "status.podIPs"),
        text("URSA_DP_TOKEN_FILE", volumes::TOKEN_FILE.to_owned()),
        text("URSA_DP_CP_ADDRESS", settings.control_plane.address.clone()),
        text("URSA_DP_CA_PEM", settings.control_plane.ca_pem.clone()),
        text("URSA_DP_DATA_DIR", volumes::DATA_DIR.to_owned()),
        text("URSA_DP_RUN_DIR", volumes::RUN_DIR.to_owned()),
        text("URSA_DP_ENVOY", "/usr/local/bin/envoy".to_owned()),
        text("URSA_DP_LOG_LEVEL", log_level.clone()),
        text("URSA_DP_HEALTH_ADDRESS", format!("0.0.0.0:{HEALTH_PORT}")),
        text("URSA_DP_CONCURRENCY", concurrency.to_string()),
    ];
    env.extend(wishes.drain_time.map(|time| text("URSA_DP_DRAIN_TIME", time.to_string())));
    env
}
