//! Why a pod is refused. Each message says what is wrong with what, and what to do.

use serde_json::Value;

use crate::names::INJECTION_LABEL;

/// A pod that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pod}: {cause}")]
pub struct Refusal {
    /// The pod, and its namespace.
    pub pod: String,
    /// Why.
    pub cause: Cause,
}

/// Why a pod is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// It is no pod.
    #[error("it cannot be read as a pod: {0}")]
    Unreadable(String),
    /// A label has a value that means nothing.
    #[error("the label {INJECTION_LABEL} of the {owner} is {value:?}: write enabled or disabled")]
    Label {
        /// `pod` or `namespace`.
        owner: &'static str,
        /// What it says.
        value: String,
    },
    /// An annotation that Ursa has not.
    #[error("the annotation {name} is unknown: {advice}")]
    UnknownAnnotation {
        /// Its name.
        name: String,
        /// What may be meant.
        advice: String,
    },
    /// An annotation with a value that cannot be used.
    #[error("the annotation {name} of the {owner} is {value:?}: {right}")]
    Annotation {
        /// Its name.
        name: &'static str,
        /// `pod` or `namespace`.
        owner: &'static str,
        /// What it says.
        value: String,
        /// What is wrong, and what would be right.
        right: String,
    },
    /// The network is the node's.
    #[error(
        "it has hostNetwork: true, and capture would take the traffic of the whole node: set hostNetwork to false, or give \
         the pod the label {INJECTION_LABEL}: disabled"
    )]
    HostNetwork,
    /// There are no sidecars for Windows.
    #[error(
        "it is for Windows, where there are no sidecars: give the pod the label {INJECTION_LABEL}: disabled"
    )]
    Windows,
    /// The namespace's pod security refuses what capture needs.
    #[error(
        "its namespace {namespace} has the label pod-security.kubernetes.io/enforce: {level}, which does not allow the \
         capability NET_ADMIN that ursa-init needs: set the label to privileged (warn and audit may stay at {level}), or give \
         the pod the label {INJECTION_LABEL}: disabled"
    )]
    PodSecurity {
        /// The namespace.
        namespace: String,
        /// What it enforces.
        level: String,
    },
    /// What the proxy's user sends is not captured.
    #[error(
        "{what} runs as user 5678, which is the proxy's: nothing that it sends would be captured; choose another runAsUser"
    )]
    ProxyUser {
        /// The container, or the pod.
        what: String,
    },
    /// A name that the sidecar's parts have.
    #[error("the {what} {name} has a name that is the sidecar's: give it another one")]
    NameTaken {
        /// `container` or `volume`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Only a part of the sidecar is there.
    #[error(
        "it has a part of a sidecar, and no container {missing} that is the sidecar's: remove the containers ursa-init and \
         ursa-dp and the volumes ursa-token, ursa-data and ursa-run, so that it is injected anew"
    )]
    HalfInjected {
        /// What is not there.
        missing: &'static str,
    },
    /// A port on which the proxy listens.
    #[error(
        "the container {container} has port {port}, on which the proxy listens in every pod of the mesh: choose another"
    )]
    PortTaken {
        /// The container.
        container: String,
        /// The port.
        port: i32,
    },
    /// A probe that the agent could not answer.
    #[error("the {probe}Probe of container {container} cannot go through the sidecar: {why}")]
    Probe {
        /// The container.
        container: String,
        /// `startup`, `liveness` or `readiness`.
        probe: &'static str,
        /// Why, and what to do.
        why: String,
    },
}

impl Cause {
    /// A short word, one a cause: for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Label { .. } => "label",
            Self::UnknownAnnotation { .. } => "unknown-annotation",
            Self::Annotation { .. } => "annotation",
            Self::HostNetwork => "host-network",
            Self::Windows => "windows",
            Self::PodSecurity { .. } => "pod-security",
            Self::ProxyUser { .. } => "proxy-user",
            Self::NameTaken { .. } => "name-taken",
            Self::HalfInjected { .. } => "half-injected",
            Self::PortTaken { .. } => "port-taken",
            Self::Probe { .. } => "probe",
        }
    }
}

/// A pod as people name it; one of a Deployment has no name yet when it is judged.
pub(crate) fn display_name(pod: &Value, namespace: &str) -> String {
    let text = |field: &str| pod["metadata"][field].as_str().filter(|text| !text.is_empty());
    let name = match (text("name"), text("generateName")) {
        (Some(name), _) => name.to_owned(),
        (None, Some(start)) => format!("{start}*"),
        (None, None) => "without a name".to_owned(),
    };
    format!("pod {name} in namespace {namespace}")
}
