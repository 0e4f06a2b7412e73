//! Who calls: by data-plane token, or by a client certificate that the zone signed.

use jiff::Timestamp;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Status};
use ursa_crds::{DataplaneSpec, Kind, Object, ObjectKey, Spec, Tags};
use ursa_identity::{DataplaneClaims, TokenError, Verified, VerifiedLeaf, verify_leaf};
use ursa_listen::PeerCertificates;
use ursa_model::ProxyId;

use crate::review::{PodIdentity, ReviewError};
use crate::{Context, revocation};

/// What a caller has proved.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// It holds this token.
    Token(Verified<DataplaneClaims>),
    /// It is this pod.
    Pod(PodIdentity),
    /// It holds the key of this certificate.
    Certificate(VerifiedLeaf),
}

impl Caller {
    /// From a request; the token counts when there are both. Refused if it is revoked.
    pub(crate) async fn of(
        context: &Context,
        metadata: &MetadataMap,
        extensions: &Extensions,
    ) -> Result<Self, Status> {
        let caller = Self::proven(context, metadata, extensions).await?;
        revocation::refuse(&context.store, &caller)?;
        Ok(caller)
    }

    async fn proven(
        context: &Context,
        metadata: &MetadataMap,
        extensions: &Extensions,
    ) -> Result<Self, Status> {
        if let Some(header) = metadata.get("authorization") {
            let token = header
                .to_str()
                .ok()
                .and_then(|text| text.strip_prefix("Bearer "))
                .ok_or_else(|| Status::unauthenticated("authorization must be `Bearer TOKEN`"))?;
            match context.tokens.verify_dataplane(token, Timestamp::now()) {
                Ok(token) => return Ok(Self::Token(token)),
                // An agent whose token has expired goes on with its certificate.
                Err(error) => {
                    if let Some(caller) = Self::of_certificate(context, extensions).await? {
                        return Ok(caller);
                    }
                    let Some(reviewer) = &context.reviewer else {
                        return Err(Status::unauthenticated(error.to_string()));
                    };
                    return reviewer.review(token).await.map(Self::Pod).map_err(|error| match error {
                        ReviewError::Refused(_) => Status::unauthenticated(error.to_string()),
                        ReviewError::Unavailable(_) => Status::unavailable(error.to_string()),
                    });
                }
            }
        }
        Self::of_certificate(context, extensions)
            .await?
            .ok_or_else(|| Status::unauthenticated("a data-plane token is required"))
    }

    async fn of_certificate(context: &Context, extensions: &Extensions) -> Result<Option<Self>, Status> {
        let Some(PeerCertificates(chain)) =
            extensions.get::<PeerCertificates>().filter(|peer| !peer.0.is_empty())
        else {
            return Ok(None);
        };
        let refused =
            |error: &dyn std::fmt::Display| Status::unauthenticated(format!("client certificate: {error}"));
        let issuers = context.authority.issuers().await;
        let leaf = verify_leaf(chain, &issuers, Timestamp::now()).map_err(|error| refused(&error))?;
        Ok(Some(Self::Certificate(leaf)))
    }

    /// The id of the token that the caller shows, or that its certificate was signed on.
    pub(crate) fn token_id(&self) -> Option<&str> {
        match self {
            Self::Token(token) => Some(&token.id),
            Self::Certificate(leaf) => leaf.token_id.as_deref(),
            Self::Pod(_) => None,
        }
    }

    /// The mesh that the credential is for, if it says that; empty for a zone ingress.
    pub(crate) fn mesh(&self) -> Option<&str> {
        match self {
            Self::Token(token) => Some(&token.claims.mesh),
            Self::Certificate(leaf) => Some(&leaf.id.trust_domain.mesh),
            Self::Pod(_) => None,
        }
    }

    /// Whether the caller may run this dataplane.
    pub(crate) fn admits(
        &self,
        context: &Context,
        proxy: &ProxyId,
        spec: &DataplaneSpec,
    ) -> Result<(), Status> {
        self.admits_name(context, proxy)?;
        let services: Vec<&str> = spec.networking.inbound.iter().map(ursa_crds::Inbound::service).collect();
        match self {
            Self::Token(Verified { claims, .. }) => {
                allowed(claims.admits(&proxy.mesh, &proxy.name, &services, &context.zone))
            }
            Self::Pod(_) if is_of(self, spec) => Ok(()),
            Self::Pod(pod) => Err(Status::permission_denied(format!(
                "the token is that of pod {}/{}, and {proxy} is another",
                pod.namespace, pod.name
            ))),
            // A pod's services are what Kubernetes says.
            Self::Certificate(_) if spec.pod.is_some() => Ok(()),
            // More services than the certificate names need a token that says so.
            Self::Certificate(VerifiedLeaf { id, .. }) => {
                match services.iter().find(|service| **service != id.service) {
                    Some(other) => Err(Status::permission_denied(format!(
                        "the client certificate is of {id}, not of service {other}"
                    ))),
                    None => Ok(()),
                }
            }
        }
    }

    /// Whether the caller may run this zone ingress; `name` is its own, without the zone.
    pub(crate) fn admits_ingress(&self, context: &Context, name: &str) -> Result<(), Status> {
        match self {
            Self::Token(Verified { claims, .. }) if !claims.mesh.is_empty() => {
                Err(Status::permission_denied(format!(
                    "the token is for dataplanes of mesh {}, not for a zone ingress",
                    claims.mesh
                )))
            }
            Self::Token(Verified { claims, .. }) => allowed(claims.admits("", name, &[], &context.zone)),
            Self::Pod(pod) if pod.ingress.as_deref() == Some(name) => Ok(()),
            Self::Pod(pod) => Err(Status::permission_denied(format!(
                "pod {}/{} is not of zone ingress {name}",
                pod.namespace, pod.name
            ))),
            Self::Certificate(VerifiedLeaf { id, .. }) => {
                Err(Status::permission_denied(format!("{id} is not a zone ingress")))
            }
        }
    }

    /// Whether the caller may run the proxy, as far as its name says; nothing is looked up, so a refusal tells a
    /// stranger nothing of what exists.
    fn admits_name(&self, context: &Context, proxy: &ProxyId) -> Result<(), Status> {
        if proxy.mesh.is_empty() {
            // Of an ingress in pods, each is a proxy of its own; of any other there is only one.
            let pod = if let Self::Pod(pod) = self { Some(pod.name.as_str()) } else { None };
            if proxy.pod() != pod {
                return Err(Status::permission_denied(format!(
                    "the credential is not that of zone ingress {proxy}"
                )));
            }
            return self.admits_ingress(context, own_name(context, proxy.resource()));
        }
        match self {
            Self::Token(Verified { claims, .. }) if claims.mesh.is_empty() => Err(Status::permission_denied(
                format!("the token is for a zone ingress, not for dataplane {proxy}"),
            )),
            Self::Token(Verified { claims, .. }) => {
                allowed(claims.admits(&proxy.mesh, &proxy.name, &[], &context.zone))
            }
            Self::Pod(pod) if pod.ingress.is_none() && proxy.name == pod.proxy_name() => Ok(()),
            Self::Pod(pod) => Err(Status::permission_denied(format!(
                "the token is that of pod {}/{}, not of {proxy}",
                pod.namespace, pod.name
            ))),
            Self::Certificate(VerifiedLeaf { id, .. })
                if id.trust_domain.mesh == proxy.mesh && id.proxy == proxy.name =>
            {
                Ok(())
            }
            Self::Certificate(VerifiedLeaf { id, .. }) => Err(Status::permission_denied(format!(
                "the client certificate is of {id}, not of dataplane {proxy}"
            ))),
        }
    }

    /// The proxy that a node id names, if it is registered and the caller may run it.
    pub(crate) fn registered(&self, context: &Context, node_id: &str) -> Result<ProxyId, Status> {
        let proxy = ProxyId::parse(node_id)
            .ok_or_else(|| Status::invalid_argument(format!("node id {node_id:?} is not MESH/NAME")))?;
        self.admits_name(context, &proxy)?;
        let object = context.store.get(&key_of(&proxy));
        let admitted = match object.as_ref().map(|object| &object.spec) {
            Some(Spec::Dataplane(spec)) => self.admits(context, &proxy, spec),
            Some(Spec::ZoneIngress(_)) => Ok(()),
            Some(_) => return Err(Status::internal("a proxy's key holds another kind")),
            None => Err(Status::failed_precondition(format!("proxy {proxy} is not registered"))),
        };
        match admitted {
            // A token for services names no dataplane: of one with other services it is told as little as of none.
            Err(_) if !self.is_bound_to(&proxy) => {
                return Err(Status::failed_precondition(format!(
                    "proxy {proxy} is not registered, or the token is not for its services"
                )));
            }
            admitted => admitted?,
        }
        if let Some(Spec::Dataplane(spec)) = object.as_ref().map(|object| &object.spec) {
            refuse_excluded(context, &proxy, spec)?;
        }
        Ok(proxy)
    }

    /// The tags that a dataplane has proved: those of the token that it shows. A certificate shows that its holder is the one
    /// whom a token was shown for before.
    pub(crate) fn proven_tags(&self, context: &Context, proxy: &ProxyId) -> Tags {
        match self {
            Self::Token(Verified { claims, .. }) => claims.tags.clone(),
            Self::Pod(_) => Tags::new(),
            Self::Certificate(_) => match context.store.get(&key_of(proxy)).as_deref() {
                Some(Object { spec: Spec::Dataplane(spec), .. }) => spec.token_tags.clone(),
                _ => Tags::new(),
            },
        }
    }

    /// The id of the token that a dataplane's agent came with. A certificate from before they said it was given to whom the last one
    /// was shown for.
    pub(crate) fn proven_token_id(&self, context: &Context, proxy: &ProxyId) -> Option<String> {
        let known = || match context.store.get(&key_of(proxy)).as_deref() {
            Some(Object { spec: Spec::Dataplane(spec), .. }) => spec.token_id.clone(),
            _ => None,
        };
        match self {
            Self::Certificate(VerifiedLeaf { token_id: None, .. }) => known(),
            _ => self.token_id().map(str::to_owned),
        }
    }

    /// Whether the credential names one proxy only: then another agent with it is the same one come back.
    pub(crate) fn is_bound_to(&self, proxy: &ProxyId) -> bool {
        proxy.mesh.is_empty() || matches!(self, Self::Pod(_)) || self.proxy().as_ref() == Some(proxy)
    }

    /// The proxy that the credential names, for callers that do not say who they are.
    pub(crate) fn proxy(&self) -> Option<ProxyId> {
        match self {
            // Which mesh it is in is what discovery says.
            Self::Pod(_) => None,
            Self::Token(Verified { claims, .. }) => {
                claims.name.as_ref().map(|name| ProxyId::new(&claims.mesh, name))
            }
            Self::Certificate(VerifiedLeaf { id, .. }) => {
                Some(ProxyId::new(&id.trust_domain.mesh, &id.proxy))
            }
        }
    }
}

/// Refuses what its mesh does not take, whatever it proves.
pub(crate) fn refuse_excluded(
    context: &Context,
    proxy: &ProxyId,
    spec: &DataplaneSpec,
) -> Result<(), Status> {
    let mesh = context.store.get(&ObjectKey::mesh(&proxy.mesh));
    let reason = match mesh.as_ref().map(|object| &object.spec) {
        Some(Spec::Mesh(mesh)) => ursa_policy::exclusion(&proxy.mesh, mesh, &context.zone, spec),
        _ => None,
    };
    reason.map_or(Ok(()), |reason| Err(excluded(proxy, &reason)))
}

/// Whether what a snapshot says of an exclusion is so by what is stored, which is newer: the agent may just have come with
/// what lifts it, and the next snapshot is on its way.
pub(crate) fn is_excluded(context: &Context, proxy: &ProxyId) -> bool {
    match context.store.get(&key_of(proxy)).as_deref() {
        Some(Object { spec: Spec::Dataplane(spec), .. }) => refuse_excluded(context, proxy, spec).is_err(),
        _ => true,
    }
}

/// As an agent is told.
pub(crate) fn excluded(proxy: &ProxyId, reason: &str) -> Status {
    Status::permission_denied(format!("dataplane {proxy} may not be in its mesh: {reason}"))
}

/// A pod of the same name may be another one.
fn is_of(caller: &Caller, spec: &DataplaneSpec) -> bool {
    matches!((caller, &spec.pod), (Caller::Pod(pod), Some(known)) if pod.uid == known.uid)
}

fn allowed(judged: Result<(), TokenError>) -> Result<(), Status> {
    judged.map_err(|error| Status::permission_denied(error.to_string()))
}

/// Where a proxy's resource is stored.
pub(crate) fn key_of(proxy: &ProxyId) -> ObjectKey {
    let kind = if proxy.mesh.is_empty() { Kind::ZoneIngress } else { Kind::Dataplane };
    ObjectKey::in_mesh(kind, &proxy.mesh, proxy.resource())
}

/// A zone ingress is stored as `<zone>.<name>`, so that names of several zones never clash; its token has the name.
pub(crate) fn own_name<'a>(context: &Context, stored: &'a str) -> &'a str {
    stored.strip_prefix(&context.zone).and_then(|rest| rest.strip_prefix('.')).unwrap_or_default()
}
