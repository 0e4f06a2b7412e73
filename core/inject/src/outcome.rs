//! What becomes of a pod.

use std::fmt;

use serde_json::Value;

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It stays as it is.
    Unchanged(Unchanged),
    /// It is to be this one.
    Patched(Value),
}

/// Why a pod stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unchanged {
    /// Neither its labels nor its namespace's ask for a sidecar.
    NotAsked,
    /// Its label, or its namespace's, says that it is to have none.
    OptedOut,
    /// Kubernetes itself lives in the namespace.
    SystemNamespace,
    /// It only shows what a node runs by a file of its own.
    StaticPod,
    /// It has all that it would get.
    AlreadyInjected,
}

impl Unchanged {
    /// A short word, one a reason: for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotAsked => "not-asked",
            Self::OptedOut => "opted-out",
            Self::SystemNamespace => "system-namespace",
            Self::StaticPod => "static-pod",
            Self::AlreadyInjected => "already-injected",
        }
    }
}

impl fmt::Display for Unchanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAsked => "neither the pod nor its namespace asks for a sidecar",
            Self::OptedOut => "the pod or its namespace says that it is to have no sidecar",
            Self::SystemNamespace => "the namespace is Kubernetes' own",
            Self::StaticPod => "it shows a static pod, which the API server cannot change",
            Self::AlreadyInjected => "it has its sidecar already",
        })
    }
}
