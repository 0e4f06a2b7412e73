//! What is seen of a ControlPlane on the API server, with certificates renewed where it is time.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::Api;
use kube::{Client, ResourceExt as _};
use ursa_crds::{CertIssuer, ControlPlane};

use super::plan::{certificate_names, read_authority, read_tls};
use crate::certificates::{Authority, CertificateError, Pair};
use crate::names::{Names, Part};

/// The Lease that the replicas of a namespace's control plane hold.
const LEASE: &str = "ursa-cp";
/// Who has not renewed it for this long does not lead any more.
const LED_FOR: SignedDuration = SignedDuration::from_secs(30);

/// What a plan is made from besides the ControlPlane.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The UID of the ControlPlane's namespace.
    pub namespace_uid: String,
    /// The Deployment of the control plane.
    pub control_plane: Option<Rollout>,
    /// The Deployment of the webhook.
    pub webhook: Option<Rollout>,
    /// Whether a replica of the control plane leads.
    pub led: bool,
    /// Whether the API server asks the webhook already.
    pub configured: bool,
    /// The certificates that are to be in force.
    pub tls: Tls,
}

/// How far a Deployment is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// How many replicas are asked for.
    pub replicas: i32,
    /// How many there are, of any version.
    pub total: i32,
    /// How many are of the current version.
    pub updated: i32,
    /// How many serve.
    pub available: i32,
    /// Whether these numbers are about the current specification.
    pub observed: bool,
    /// Whether the current version was up as a whole once.
    pub complete: bool,
    /// Why it does not get on, if it does not.
    pub stuck: Option<String>,
}

impl Rollout {
    /// As the API server tells it.
    pub(crate) fn of(deployment: &Deployment) -> Self {
        let status = deployment.status.clone().unwrap_or_default();
        let stuck = status.conditions.iter().flatten().find(|condition| {
            condition.type_ == "Progressing" && condition.status == "False"
                || condition.type_ == "ReplicaFailure" && condition.status == "True"
        });
        let complete = status.conditions.iter().flatten().any(|condition| {
            condition.type_ == "Progressing" && condition.reason.as_deref() == Some("NewReplicaSetAvailable")
        });
        Self {
            complete,
            replicas: deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
            total: status.replicas.unwrap_or_default(),
            updated: status.updated_replicas.unwrap_or_default(),
            available: status.available_replicas.unwrap_or_default(),
            observed: status.observed_generation >= deployment.metadata.generation,
            stuck: stuck.map(|condition| condition.message.clone().unwrap_or_default()),
        }
    }

    /// Whether all replicas are of the current version, and were up once.
    pub fn is_done(&self) -> bool {
        self.observed && self.complete && self.updated == self.replicas && self.total == self.replicas
    }

    /// How many replicas are certain to be of the current version and to serve.
    pub fn current(&self) -> i32 {
        if self.observed { (self.available - (self.total - self.updated)).max(0) } else { 0 }
    }
}

/// The certificates of control plane and webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// By an authority of the operator.
    SelfMade {
        /// What signs.
        authority: Authority,
        /// Of the control plane.
        control_plane: Pair,
        /// Of the webhook.
        webhook: Pair,
    },
    /// By cert-manager.
    CertManager {
        /// What the control plane's certificate is trusted by, once it is issued.
        ca: Option<String>,
    },
}

impl Tls {
    /// What the control plane's certificate is trusted by.
    pub fn control_plane_ca(&self) -> Option<&str> {
        match self {
            Self::SelfMade { authority, .. } => Some(&authority.bundle),
            Self::CertManager { ca } => ca.as_deref(),
        }
    }

    /// What the webhook's certificate is trusted by, if it is for the operator to say.
    pub fn webhook_ca(&self) -> Option<&str> {
        match self {
            Self::SelfMade { authority, .. } => Some(&authority.bundle),
            Self::CertManager { .. } => None,
        }
    }
}

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The API server did not answer.
    #[error("cannot read {what}: {source}")]
    Read {
        /// What was asked for.
        what: String,
        /// Why.
        source: kube::Error,
    },
    /// A certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// Looks at everything.
pub(crate) async fn observe(
    client: &Client,
    control_plane: &ControlPlane,
    names: &Names,
    now: Timestamp,
) -> Result<Observed, ObserveError> {
    let deployments = Api::<Deployment>::namespaced(client.clone(), &names.namespace);
    let rollout = async |part| {
        let name = names.part(part);
        let found = deployments.get_opt(&name).await.map_err(|source| read(&name, source))?;
        Ok::<_, ObserveError>(found.filter(|found| is_ours(found, names)).as_ref().map(Rollout::of))
    };
    let configuration = names.cluster("validation");
    let configurations = Api::<ValidatingWebhookConfiguration>::all(client.clone());
    let configured = configurations.get_opt(&configuration).await;
    let namespaces = Api::<Namespace>::all(client.clone());
    let namespace =
        namespaces.get(&names.namespace).await.map_err(|source| read(&names.namespace, source))?;
    Ok(Observed {
        namespace_uid: namespace.uid().unwrap_or_default(),
        control_plane: rollout(Part::ControlPlane).await?,
        webhook: rollout(Part::Webhook).await?,
        led: is_led(client, names, now).await?,
        configured: configured.map_err(|source| read(&configuration, source))?.is_some(),
        tls: tls(client, control_plane, names, now).await?,
    })
}

/// Whether somebody holds the Lease of the control plane. It is renewed every 2 s; clocks differ.
async fn is_led(client: &Client, names: &Names, now: Timestamp) -> Result<bool, ObserveError> {
    let leases = Api::<Lease>::namespaced(client.clone(), &names.namespace);
    let found = leases.get_opt(LEASE).await.map_err(|source| read(LEASE, source))?;
    let held = found.and_then(|lease| lease.spec).filter(|spec| spec.holder_identity.is_some());
    let renewed = held.and_then(|spec| spec.renew_time).map(|MicroTime(renewed)| renewed);
    Ok(renewed.is_some_and(|renewed| now.duration_since(renewed) < LED_FOR))
}

fn is_ours(deployment: &Deployment, names: &Names) -> bool {
    deployment.labels().get(crate::names::CONTROL_PLANE) == Some(&names.label())
}

fn read(what: &str, source: kube::Error) -> ObserveError {
    ObserveError::Read { what: what.to_owned(), source }
}

async fn tls(
    client: &Client,
    control_plane: &ControlPlane,
    names: &Names,
    now: Timestamp,
) -> Result<Tls, ObserveError> {
    let secrets = Api::<Secret>::namespaced(client.clone(), &names.namespace);
    let data = async |name: &str| {
        let found = secrets.get_opt(name).await.map_err(|source| read(name, source))?;
        Ok::<_, ObserveError>(found.and_then(|secret| secret.data).unwrap_or_default())
    };
    let leaf = async |part| Ok::<_, ObserveError>(read_tls(&data(&names.tls(part)).await?));
    match control_plane.spec.tls.issuer {
        CertIssuer::CertManager => Ok(Tls::CertManager { ca: leaf(Part::ControlPlane).await?.1 }),
        CertIssuer::SelfSigned => {
            let authority = Authority::renewed(read_authority(&data(&names.authority()).await?), now)?;
            let renewed = async |part| {
                let (stored, _) = leaf(part).await?;
                Ok::<_, ObserveError>(authority.leaf(
                    stored,
                    &certificate_names(&control_plane.spec, names, part),
                    now,
                )?)
            };
            let (control_plane, webhook) =
                (renewed(Part::ControlPlane).await?, renewed(Part::Webhook).await?);
            Ok(Tls::SelfMade { control_plane, webhook, authority })
        }
    }
}
