//! Agents' sessions: registration of the dataplane, readiness, draining, whom proxies let in without an identity of the
//! mesh, and the signing of certificates.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use ursa_crds::{DecodeError, Object, ObjectKey, Spec};
use ursa_index::{Certificate, Connection, IdentityGrant, Names, Snapshot, SnapshotReceiver};
use ursa_model::ProxyId;
use ursa_proto::agent::agent_server::Agent;
use ursa_proto::agent::{
    FromAgent, Hello, Identity, Name, SignCertificateRequest, SignCertificateResponse, ToAgent, Welcome,
    from_agent, to_agent,
};

use crate::Context;
use crate::access::{Caller, excluded, is_excluded, key_of, refuse_excluded};
use crate::peers;
use crate::revocation::{self, Revocations};

/// How long an agent may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an agent waits for its pod to be discovered.
const POD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a certificate waits for the snapshot that grants it.
const GRANT_TIMEOUT: Duration = Duration::from_secs(5);

/// The namespace that Ursa's own objects have on Kubernetes.
const SYSTEM_NAMESPACE: &str = "ursa-system";

pub(crate) struct AgentService {
    context: Context,
    revocations: Revocations,
}

impl AgentService {
    pub(crate) fn new(context: Context, revocations: Revocations) -> Self {
        Self { context, revocations }
    }
}

type Sender = mpsc::Sender<Result<ToAgent, Status>>;

#[tonic::async_trait]
impl Agent for AgentService {
    type SessionStream = Pin<Box<dyn futures::Stream<Item = Result<ToAgent, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<FromAgent>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let caller = Caller::of(&self.context, request.metadata(), request.extensions()).await?;
        let (context, revocations) = (self.context.clone(), self.revocations.clone());
        let messages = request.into_inner();
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(async move {
            let served = serve(&context, &caller, &revocations, messages, &sender).await;
            if let Err(status) = served {
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn sign_certificate(
        &self,
        request: Request<SignCertificateRequest>,
    ) -> Result<Response<SignCertificateResponse>, Status> {
        let caller = Caller::of(&self.context, request.metadata(), request.extensions()).await?;
        let SignCertificateRequest { csr, node_id } = request.into_inner();
        let node_id = match caller.proxy() {
            _ if !node_id.is_empty() => node_id,
            Some(proxy) => proxy.to_string(),
            None => {
                return Err(Status::invalid_argument(
                    "node_id: the token names no dataplane, so the request must",
                ));
            }
        };
        let proxy = caller.registered(&self.context, &node_id)?;
        if proxy.mesh.is_empty() {
            return Err(Status::permission_denied(format!("{proxy} is in no mesh: it has no certificate")));
        }
        let grant = self.grant(&proxy).await?;
        let authority = self.context.authority.current(&proxy.mesh, &grant.backend).await;
        let authority =
            authority.ok_or_else(|| Status::unavailable("the certificate authority is not ready"))?;
        // It has waited.
        revocation::refuse(&self.context.store, &caller)?;
        let token_id = caller.proven_token_id(&self.context, &proxy);
        let now = Timestamp::now();
        let chain = authority
            .sign_on_token(&csr, &grant.spiffe_id, token_id.as_deref(), grant.lifetime, now)
            .map_err(|error| Status::invalid_argument(format!("csr: {error}")))?;
        let expires = now.checked_add(grant.lifetime).unwrap_or(Timestamp::MAX);
        let certificate = Certificate { backend: grant.backend.clone(), expires, signed_at: Some(now) };
        self.context.index.observe(&proxy, |insight| insight.certificate = Some(certificate));
        tracing::debug!(%proxy, spiffe_id = %grant.spiffe_id, "signed a certificate");
        Ok(Response::new(SignCertificateResponse { chain, signer: authority.signer().to_owned() }))
    }
}

impl AgentService {
    /// What certificate the proxy is to have.
    async fn grant(&self, proxy: &ProxyId) -> Result<IdentityGrant, Status> {
        let snapshots = self.context.index.subscribe(proxy).await;
        let mut snapshots = snapshots.ok_or_else(|| Status::unavailable("the control plane is stopping"))?;
        let is_decided = |s: &Arc<Snapshot>| {
            s.identity.is_some() || (s.exclusion.is_some() && is_excluded(&self.context, proxy))
        };
        let grant = snapshots.wait_for(|snapshot| snapshot.as_ref().is_some_and(is_decided));
        match tokio::time::timeout(GRANT_TIMEOUT, grant).await {
            Ok(Ok(snapshot)) => match snapshot.as_deref() {
                Some(Snapshot { exclusion: Some(reason), .. }) => Err(excluded(proxy, reason)),
                Some(Snapshot { identity: Some(identity), .. }) => Ok(identity.clone()),
                _ => Err(Status::internal("a granted identity vanished while it was read")),
            },
            _ => Err(Status::failed_precondition(format!("mutual TLS is off in mesh {}", proxy.mesh))),
        }
    }
}

async fn serve(
    context: &Context,
    caller: &Caller,
    revocations: &Revocations,
    mut messages: Streaming<FromAgent>,
    sender: &Sender,
) -> Result<(), Status> {
    let hello = match tokio::time::timeout(HELLO_TIMEOUT, messages.message()).await {
        Ok(Ok(Some(FromAgent { message: Some(from_agent::Message::Hello(hello)) }))) => hello,
        Ok(Ok(None)) => return Ok(()),
        Ok(Err(status)) => return Err(status),
        _ => return Err(Status::invalid_argument("the first message must be Hello")),
    };
    let proxy = if hello.resource.is_empty() {
        await_pod(context, caller, &hello.node_id).await?
    } else {
        register(context, caller, &hello).await?
    };
    let connection = context.index.connect(&proxy);
    context.index.observe(&proxy, |insight| {
        insight.connected = true;
        insight.connected_at = Some(Timestamp::now());
        insight.agent_version.clone_from(&hello.agent_version);
        insight.envoy_version.clone_from(&hello.envoy_version);
    });
    tracing::info!(%proxy, agent = hello.agent_version, envoy = hello.envoy_version, "agent connected");
    let welcome =
        Welcome { node_id: proxy.to_string(), zone: context.zone.clone(), takes_unauthenticated_peers: true };
    let _ = send(sender, to_agent::Message::Welcome(welcome)).await;
    let snapshots = context.index.subscribe(&proxy).await;
    let snapshots = snapshots.ok_or_else(|| Status::unavailable("the control plane is stopping"))?;
    let token_id = caller.proven_token_id(context, &proxy).unwrap_or_default();
    let result = tokio::select! {
        // What it is told must be the token, not what follows from it for its dataplane.
        biased;
        revoked = revocations.of(caller) => {
            tracing::info!(%proxy, token_id = caller.token_id(), "the token is revoked: the agent's session ends");
            Err(revoked)
        }
        aged = grown_old(context.session_age) => Err(aged),
        result = converse(context, &proxy, token_id, &connection, messages, snapshots, sender) => result,
    };
    context.index.observe(&proxy, |insight| {
        insight.connected = false;
        insight.disconnected_at = Some(Timestamp::now());
    });
    tracing::info!(%proxy, "agent disconnected");
    result
}

/// Waits until a session has lasted for half to all of its age, so that those who came at once do not leave at once.
async fn grown_old(age: Option<Duration>) -> Status {
    let Some(age) = age else { return std::future::pending().await };
    let least = age / 2;
    let chance =
        RandomState::new().hash_one(()) % u64::try_from(least.as_millis()).unwrap_or(u64::MAX).max(1);
    tokio::time::sleep(least + Duration::from_millis(chance)).await;
    Status::aborted("the session has lasted long enough: come again, to whichever replica")
}

/// Waits until the pod of the agent is discovered: the agent may be faster than the news of its address.
async fn await_pod(context: &Context, caller: &Caller, node_id: &str) -> Result<ProxyId, Status> {
    let unnamed = || Status::invalid_argument("neither a resource nor a pod is named");
    let mut proxy = ProxyId::parse(node_id).ok_or_else(unnamed)?;
    if proxy.mesh.is_empty() {
        // An agent of a zone ingress does not know the zone.
        let pod = proxy.pod().ok_or_else(unnamed)?;
        proxy = ProxyId::replica(&format!("{}.{}", context.zone, proxy.resource()), pod);
    }
    // Subscribed before the first look, so that nothing is missed.
    let (_, mut changes) = context.store.watch();
    let discovered = async {
        while context.store.get(&key_of(&proxy)).is_none() {
            changes.next().await?;
        }
        Some(())
    };
    if !matches!(tokio::time::timeout(POD_TIMEOUT, discovered).await, Ok(Some(()))) {
        return Err(Status::failed_precondition(format!(
            "pod {proxy} is not discovered yet, or has no sidecar of this mesh"
        )));
    }
    caller.registered(context, &proxy.to_string())
}

/// Stores the resource of the proxy that the agent runs, if the caller may run it.
async fn register(context: &Context, caller: &Caller, hello: &Hello) -> Result<ProxyId, Status> {
    let mut object = ursa_crds::decode(&hello.resource).map_err(|error| match error {
        DecodeError::Unreadable(_) => Status::invalid_argument(format!("the resource {error}")),
        DecodeError::Invalid(problem) => {
            Status::invalid_argument(format!("the resource is invalid: {problem}"))
        }
    })?;
    if let Spec::Dataplane(spec) = &mut object.spec {
        let proxy = ProxyId::new(&spec.mesh, &object.meta.name);
        spec.token_tags = caller.proven_tags(context, &proxy);
        spec.token_id = caller.proven_token_id(context, &proxy);
    }
    let problems = ursa_policy::validate(&object);
    if !problems.is_empty() {
        let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
        return Err(Status::invalid_argument(format!(
            "the {} is invalid: {}",
            object.kind(),
            texts.join("; ")
        )));
    }
    // The same file serves Kubernetes. Here it would be stored where nobody looks for it.
    if !["", SYSTEM_NAMESPACE].contains(&object.meta.namespace.as_str()) {
        return Err(Status::invalid_argument(format!(
            "the {} is invalid: metadata.namespace: there are no namespaces outside Kubernetes: leave it out, or {SYSTEM_NAMESPACE}",
            object.kind()
        )));
    }
    object.meta.namespace.clear();
    let proxy = match &mut object.spec {
        Spec::Dataplane(spec) => {
            let proxy = ProxyId::new(&spec.mesh, &object.meta.name);
            caller.admits(context, &proxy, spec)?;
            if context.store.get(&ObjectKey::mesh(&spec.mesh)).is_none() {
                return Err(Status::failed_precondition(format!("mesh {} does not exist", spec.mesh)));
            }
            refuse_excluded(context, &proxy, spec)?;
            proxy
        }
        Spec::ZoneIngress(_) if matches!(caller, Caller::Pod(_)) => {
            return Err(Status::permission_denied("the zone ingress of a pod is discovered, not registered"));
        }
        Spec::ZoneIngress(spec) => {
            caller.admits_ingress(context, &object.meta.name)?;
            spec.zone.clone_from(&context.zone);
            object.meta.name = format!("{}.{}", context.zone, object.meta.name);
            ProxyId::new("", &object.meta.name)
        }
        other => {
            let kind = other.kind();
            return Err(Status::invalid_argument(format!(
                "expected a Dataplane or a ZoneIngress, got a {kind}"
            )));
        }
    };
    refuse_double(context, caller, &proxy, &object)?;
    let object = Object { meta: ursa_crds::Meta { resource_version: 0, ..object.meta }, spec: object.spec };
    context.store.put(object, None).await.map_err(|error| Status::unavailable(error.to_string()))?;
    Ok(proxy)
}

/// A token that names no dataplane must not take over one that runs elsewhere.
fn refuse_double(context: &Context, caller: &Caller, proxy: &ProxyId, object: &Object) -> Result<(), Status> {
    let connected = context.index.insights().get(proxy).is_some_and(|insight| insight.connected);
    let moved = context.store.get(&key_of(proxy)).is_some_and(|known| {
        match (&known.spec, &object.spec) {
            // Another token moves nothing.
            (Spec::Dataplane(known), Spec::Dataplane(spec)) => {
                *known != ursa_crds::DataplaneSpec { token_id: known.token_id.clone(), ..spec.clone() }
            }
            (known, spec) => known != spec,
        }
    });
    if connected && moved && !caller.is_bound_to(proxy) {
        return Err(Status::already_exists(format!(
            "dataplane {proxy} is connected from elsewhere with another specification; choose another name, or use a token that names it"
        )));
    }
    Ok(())
}

async fn converse(
    context: &Context,
    proxy: &ProxyId,
    token_id: String,
    connection: &Connection,
    mut messages: Streaming<FromAgent>,
    mut snapshots: SnapshotReceiver,
    sender: &Sender,
) -> Result<(), Status> {
    let mut told: Option<Option<IdentityGrant>> = None;
    let mut named: Option<Arc<Names>> = None;
    snapshots.mark_changed();
    loop {
        tokio::select! {
            changed = snapshots.changed() => {
                if changed.is_err() {
                    return Err(Status::unavailable("the control plane is stopping"));
                }
                let snapshot = snapshots.borrow_and_update().clone();
                if let Some(reason) = snapshot.as_ref().and_then(|snapshot| snapshot.exclusion.as_ref()) {
                    if is_excluded(context, proxy) {
                        return Err(excluded(proxy, reason));
                    }
                    continue;
                }
                let names = snapshot.as_ref().and_then(|snapshot| snapshot.names.clone());
                if let Some(names) = names.filter(|names| named.as_ref() != Some(names)) {
                    let message = to_agent::Message::Names(wire_names(&names));
                    named = Some(names);
                    if send(sender, message).await.is_err() {
                        return Ok(());
                    }
                }
                let identity = snapshot.as_ref().map(|snapshot| snapshot.identity.clone());
                if identity.is_some() && identity != told {
                    let message = to_agent::Message::Identity(wire_identity(identity.as_ref().and_then(Option::as_ref), &token_id));
                    told = identity;
                    if send(sender, message).await.is_err() {
                        return Ok(());
                    }
                }
            }
            message = messages.next() => match message {
                None => return Ok(()),
                Some(Err(status)) => {
                    tracing::debug!(%proxy, %status, "the agent's stream broke");
                    return Ok(());
                }
                Some(Ok(FromAgent { message: Some(from_agent::Message::Readiness(readiness)) })) => {
                    let unready = readiness.inbounds.iter().filter(|inbound| !inbound.ready);
                    let ports: BTreeSet<u16> = unready.filter_map(|inbound| inbound.port.try_into().ok()).collect();
                    connection.unready(ports);
                }
                Some(Ok(FromAgent { message: Some(from_agent::Message::UnauthenticatedPeers(told)) })) => {
                    connection.unauthenticated_peers(&peers::read(told));
                }
                Some(Ok(FromAgent { message: Some(from_agent::Message::Draining(_)) })) => {
                    connection.drain().await;
                    let key = key_of(proxy);
                    if !context.store.is_discovered(&key) && let Err(error) = context.store.delete(&key, None).await {
                        tracing::warn!(%proxy, %error, "the resource of a drained agent stays registered");
                    }
                    return Ok(());
                }
                Some(Ok(FromAgent { message: Some(from_agent::Message::Hello(_)) })) => {
                    return Err(Status::invalid_argument("Hello may come only once"));
                }
                // From a newer agent.
                Some(Ok(FromAgent { message: None })) => {}
            }
        }
    }
}

fn wire_names(names: &Names) -> ursa_proto::agent::Names {
    let name = |(name, address): (&String, &IpAddr)| Name {
        name: name.clone(),
        addresses: vec![address.to_string()],
    };
    ursa_proto::agent::Names { names: names.iter().map(name).collect() }
}

fn wire_identity(grant: Option<&IdentityGrant>, token_id: &str) -> Identity {
    match grant {
        None => Identity::default(),
        Some(IdentityGrant { spiffe_id, backend: _, signer, lifetime }) => Identity {
            spiffe_id: spiffe_id.to_string(),
            signer: signer.clone(),
            lifetime_ms: lifetime.as_millis().try_into().unwrap_or(u64::MAX),
            token_id: token_id.to_owned(),
        },
    }
}

async fn send(sender: &Sender, message: to_agent::Message) -> Result<(), ()> {
    sender.send(Ok(ToAgent { message: Some(message) })).await.map_err(|_| ())
}
