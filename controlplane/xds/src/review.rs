//! Pods' identities: their ServiceAccount tokens, judged by the API server.
//! Source: <https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/>.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::{Api, PostParams};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use ursa_crds::ingress_of_account;

/// The audience of a sidecar's token: it opens nothing else, and nothing else opens this.
pub(crate) const AUDIENCE: &str = "ursamesh.io";
/// One connection of an agent asks several times.
const REMEMBERED_FOR: Duration = Duration::from_secs(10);
/// Judgements that are remembered.
const REMEMBERED: usize = 10_000;
/// Reviews at a time: strangers' tokens must not become the API server's load.
const AT_A_TIME: usize = 8;
/// Longer than any token of Kubernetes.
const LONGEST: usize = 16 * 1024;

/// A pod that has proved to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodIdentity {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// The ZoneIngress that it runs, by its ServiceAccount in the system's namespace. Then it is no workload.
    pub(crate) ingress: Option<String>,
}

impl PodIdentity {
    /// What its dataplane is called.
    pub(crate) fn proxy_name(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }
}

/// Why a token proves nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ReviewError {
    #[error("the token is not one of a pod for the audience {AUDIENCE}: {0}")]
    Refused(String),
    #[error("the API server cannot judge the token: {0}")]
    Unavailable(String),
}

/// Asks the API server whose tokens are; cheap to clone, all clones are one.
#[derive(Clone)]
pub struct Reviewer {
    api: Api<TokenReview>,
    /// Where the operator runs zone ingresses.
    system: Arc<str>,
    slots: Arc<Semaphore>,
    known: Arc<Mutex<Known>>,
}

/// Digest of a token → whose it is, and since when that is known.
type Known = HashMap<[u8; 32], (Instant, PodIdentity)>;

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviewer").finish_non_exhaustive()
    }
}

impl Reviewer {
    /// Of this cluster, whose system is in this namespace.
    pub fn new(client: kube::Client, system: &str) -> Self {
        Self {
            api: Api::all(client),
            system: system.into(),
            slots: Arc::new(Semaphore::new(AT_A_TIME)),
            known: Arc::default(),
        }
    }

    /// Whose token it is.
    pub(crate) async fn review(&self, token: &str) -> Result<PodIdentity, ReviewError> {
        if token.len() > LONGEST {
            return Err(ReviewError::Refused("it is too long".into()));
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned();
        if let Some((_, pod)) = known.filter(|(at, _)| at.elapsed() < REMEMBERED_FOR) {
            return Ok(pod);
        }
        let _slot =
            self.slots.acquire().await.map_err(|error| ReviewError::Unavailable(error.to_string()))?;
        let spec = TokenReviewSpec { audiences: Some(vec![AUDIENCE.into()]), token: Some(token.into()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = self.api.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|error| ReviewError::Unavailable(error.to_string()))?;
        let pod = identity(answer, &self.system)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.retain(|_, (at, _)| at.elapsed() < REMEMBERED_FOR);
        }
        if known.len() < REMEMBERED {
            known.insert(digest, (Instant::now(), pod.clone()));
        }
        Ok(pod)
    }
}

fn identity(review: TokenReview, system: &str) -> Result<PodIdentity, ReviewError> {
    let refused = |reason: &str| ReviewError::Refused(reason.to_owned());
    let status = review.status.ok_or_else(|| refused("the API server did not judge it"))?;
    if status.authenticated != Some(true) {
        return Err(ReviewError::Refused(status.error.unwrap_or_else(|| "it is not authentic".into())));
    }
    // An API server that knows no audiences accepts tokens for itself.
    if !status.audiences.iter().flatten().any(|audience| audience == AUDIENCE) {
        return Err(refused("it is for another audience"));
    }
    let user = status.user.ok_or_else(|| refused("it names nobody"))?;
    let name = user.username.unwrap_or_default();
    let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let (namespace, account) = account.ok_or_else(|| refused("it is not of a ServiceAccount"))?;
    let extra = |key: &str| {
        let values =
            user.extra.as_ref().and_then(|extra| extra.get(&format!("authentication.kubernetes.io/{key}")));
        values.and_then(|values| values.first()).cloned()
    };
    let unbound = || refused("it is not bound to a pod");
    let ingress = ingress_of_account(account).filter(|_| namespace == system);
    Ok(PodIdentity {
        namespace: namespace.to_owned(),
        name: extra("pod-name").ok_or_else(unbound)?,
        uid: extra("pod-uid").ok_or_else(unbound)?,
        ingress: ingress.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn review(status: serde_json::Value) -> Result<PodIdentity, ReviewError> {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {}, "status": status});
        identity(serde_json::from_value(review).unwrap(), "ursa-system")
    }

    fn status() -> serde_json::Value {
        json!({
            "authenticated": true,
            "audiences": ["ursamesh.io"],
            "user": {
                "username": "system:serviceaccount:shop:default",
                "extra": {
                    "authentication.kubernetes.io/pod-name": ["web-0"],
                    "authentication.kubernetes.io/pod-uid": ["u-1"],
                },
            },
        })
    }

    #[test]
    fn a_bound_token_of_the_audience_is_its_pods() {
        let pod = review(status()).unwrap();
        assert_eq!((pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_str()), ("shop", "web-0", "u-1"));
    }

    #[test]
    fn an_ingress_is_known_by_its_account_in_the_systems_namespace_and_by_nothing_else() {
        let ingress = |namespace: &str, account: &str| {
            let mut status = status();
            status["user"]["username"] = json!(format!("system:serviceaccount:{namespace}:{account}"));
            review(status).unwrap().ingress
        };
        assert_eq!(ingress("ursa-system", "ingress-proxy").as_deref(), Some("ingress"));
        assert_eq!(ingress("ursa-system", "ingress-proxy-proxy").as_deref(), Some("ingress-proxy"));
        for (namespace, account) in [
            ("shop", "ingress-proxy"),
            ("ursa-system-2", "ingress-proxy"),
            ("ursa-system", "ingress"),
            ("ursa-system", "-proxy"),
            ("ursa-system", "ingress-proxy-2"),
            ("ursa-system", "default"),
        ] {
            assert_eq!(ingress(namespace, account), None, "{namespace} {account}");
        }
    }

    #[test]
    fn what_is_not_a_bound_token_of_the_audience_proves_nothing() {
        let change = |at: &str, value: serde_json::Value| {
            let mut status = status();
            *status.pointer_mut(at).unwrap() = value;
            review(status).unwrap_err();
        };
        change("/authenticated", json!(false));
        change("/audiences", json!(["https://kubernetes.default.svc"]));
        change("/audiences", json!([]));
        change("/user/username", json!("system:node:n1"));
        change("/user/extra", json!({}));
        change("/user/extra", json!({"authentication.kubernetes.io/pod-name": ["web-0"]}));
    }
}
