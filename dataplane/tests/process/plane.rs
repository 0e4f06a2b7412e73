//! A control plane for tests: the real protocol over real TLS, with resources, identities and answers that a test sets
//! and sees.
//!
//! Invariant: it forgets nothing when it stops, as one with a store would not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use ursa_envoy::ResourceType;
use ursa_envoy::wire::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer, Any, DeltaDiscoveryRequest,
    DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, WireResource,
};
use ursa_identity::{ClientCerts, ServerTls, ZoneCa};
use ursa_model::{SpiffeId, TrustDomain};
use ursa_proto::agent::agent_server::{Agent, AgentServer};
use ursa_proto::agent::{
    FromAgent, Hello, Identity, Names, PeerTransport, SignCertificateRequest, SignCertificateResponse,
    ToAgent, UnauthenticatedPeer, Welcome, from_agent, to_agent,
};

use crate::mesh::LOCALHOST;
use crate::plane_tls::{Presented, connections};
use crate::wait::eventually;

/// (Type, name) → (version, body).
pub(crate) type Resources = BTreeMap<(ResourceType, String), (String, Any)>;

pub(crate) const NODE_ID: &str = "default/web-1";
pub(crate) const TOKEN: &str = "let-me-in";

pub(crate) fn spiffe_id() -> SpiffeId {
    SpiffeId::universal(TrustDomain::new("east", "default"), "web", "web-1")
}

pub(crate) fn authority() -> ZoneCa {
    ZoneCa::generate(&TrustDomain::new("east", "default"), Timestamp::now()).unwrap()
}

/// What the control plane does, and what it has seen.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) resources: Resources,
    /// Signs, for this lifetime; `None`: mutual TLS is off.
    pub(crate) authority: Option<(ZoneCa, Duration)>,
    /// Says them once there are any.
    pub(crate) names: Option<Names>,
    /// Says no to every session.
    pub(crate) refusal: Option<Status>,
    /// Tokens count; otherwise only certificates do.
    pub(crate) tokens_expired: bool,
    pub(crate) hellos: Vec<Hello>,
    /// Whether each session's client presented a certificate.
    pub(crate) presented: Vec<bool>,
    /// Port → ready, in the order in which it was said.
    pub(crate) readiness: Vec<BTreeMap<u32, bool>>,
    /// An older one, which ends a session that tells it of peers.
    pub(crate) knows_no_peers: bool,
    /// Port, transport, address, and count, each time that peers were told.
    pub(crate) peers: Vec<Vec<(u32, PeerTransport, String, u64)>>,
    pub(crate) drains: usize,
    pub(crate) signed: usize,
    /// By type: what the agent said it holds at the beginning of its newest stream.
    pub(crate) held: BTreeMap<ResourceType, BTreeMap<String, String>>,
    /// Versions that are acknowledged or were stated, of the newest stream.
    pub(crate) acked: BTreeMap<(ResourceType, String), String>,
    /// (Type, message) of each refusal.
    pub(crate) nacks: Vec<(ResourceType, String)>,
}

#[derive(Clone)]
struct Shared {
    state: Arc<Mutex<State>>,
    changes: watch::Sender<u64>,
}

/// The control plane.
pub(crate) struct Plane {
    shared: Shared,
    tls: ServerTls,
    pub(crate) address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Plane {
    pub(crate) async fn start(resources: Resources) -> Self {
        let state = State { resources, ..State::default() };
        let shared = Shared { state: Arc::new(Mutex::new(state)), changes: watch::Sender::new(0) };
        let tls = ServerTls::generate(&["127.0.0.1".to_owned()], Timestamp::now()).unwrap();
        let address = SocketAddr::new(LOCALHOST, crate::mesh::free_port());
        let mut plane = Self { shared, tls, address, runtime: None };
        plane.resume().await;
        plane
    }

    /// Comes (back) at the same address.
    pub(crate) async fn resume(&mut self) {
        let config = self.tls.rustls_server_config(ClientCerts::Requested, &[b"h2"]).unwrap();
        let address = self.address;
        let listener =
            eventually("the control plane's port is free", async || TcpListener::bind(address).await.ok());
        let listener = listener.await.into_std().unwrap();
        let runtime = Runtime::new().unwrap();
        let shared = self.shared.clone();
        runtime.spawn(async move {
            let incoming = connections(TcpListener::from_std(listener).unwrap(), config);
            tonic::transport::Server::builder()
                .add_service(AgentServer::new(shared.clone()))
                .add_service(AggregatedDiscoveryServiceServer::new(shared))
                .serve_with_incoming(incoming.boxed())
                .await
        });
        self.runtime = Some(runtime);
    }

    /// Goes away: nothing listens, every connection is cut.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub(crate) fn ca_pem(&self) -> &str {
        self.tls.ca_pem()
    }

    /// Changes what it does.
    pub(crate) fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state.lock().unwrap());
        self.shared.changes.send_modify(|count| *count += 1);
    }

    pub(crate) fn see<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.shared.state.lock().unwrap())
    }

    /// Waits until it has seen something.
    pub(crate) async fn sees<T>(&self, what: &str, look: impl Fn(&State) -> Option<T>) -> T {
        eventually(what, async || self.see(|state| look(state))).await
    }

    /// Waits until everything that it has is acknowledged, but for these.
    pub(crate) async fn sees_all_acknowledged(&self, except: &[&str]) {
        self.sees("everything is acknowledged", |state| {
            let open = state.resources.iter().any(|(key, (version, _))| {
                !except.contains(&key.1.as_str()) && state.acked.get(key) != Some(version)
            });
            (!open).then_some(())
        })
        .await;
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn authenticate<T>(&self, request: &Request<T>) -> Result<bool, Status> {
        let presented = request.extensions().get::<Presented>().is_some_and(|presented| presented.0);
        let bearer = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let expired = self.state.lock().unwrap().tokens_expired;
        if presented || (!expired && bearer == Some(&format!("Bearer {TOKEN}"))) {
            Ok(presented)
        } else {
            Err(Status::unauthenticated("the token is not valid (any more)"))
        }
    }
}

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Agent for Shared {
    type SessionStream = Out<ToAgent>;

    async fn session(
        &self,
        request: Request<Streaming<FromAgent>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let presented = self.authenticate(&request)?;
        let mut incoming = request.into_inner();
        let Some(from_agent::Message::Hello(hello)) = incoming.message().await?.and_then(|m| m.message)
        else {
            return Err(Status::invalid_argument("the first message must be Hello"));
        };
        let (outgoing, receiver) = mpsc::unbounded_channel();
        let takes_unauthenticated_peers = {
            let mut state = self.state.lock().unwrap();
            state.hellos.push(hello);
            state.presented.push(presented);
            if let Some(status) = &state.refusal {
                return Err(status.clone());
            }
            !state.knows_no_peers
        };
        let say = move |message| outgoing.send(Ok(ToAgent { message: Some(message) }));
        let welcome = Welcome { node_id: NODE_ID.into(), zone: "east".into(), takes_unauthenticated_peers };
        let _ = say(to_agent::Message::Welcome(welcome));
        let shared = self.clone();
        tokio::spawn(async move {
            let mut changes = shared.changes.subscribe();
            let mut said = None;
            let mut said_names = None;
            loop {
                let identity = match &shared.state.lock().unwrap().authority {
                    None => Identity::default(),
                    Some((authority, lifetime)) => Identity {
                        spiffe_id: spiffe_id().to_string(),
                        signer: authority.signer().into(),
                        lifetime_ms: u64::try_from(lifetime.as_millis()).unwrap(),
                        token_id: String::new(),
                    },
                };
                if said.as_ref() != Some(&identity) {
                    let _ = say(to_agent::Message::Identity(identity.clone()));
                    said = Some(identity);
                }
                let names = shared.state.lock().unwrap().names.clone();
                if said_names != names {
                    let _ = names.clone().map(|names| say(to_agent::Message::Names(names)));
                    said_names = names;
                }
                tokio::select! {
                    message = incoming.message() => match message.ok().flatten().and_then(|m| m.message) {
                        Some(from_agent::Message::Readiness(readiness)) => {
                            let inbounds = readiness.inbounds.into_iter().map(|one| (one.port, one.ready));
                            shared.state.lock().unwrap().readiness.push(inbounds.collect());
                        }
                        Some(from_agent::Message::UnauthenticatedPeers(told)) if takes_unauthenticated_peers => {
                            let peer = |peer: UnauthenticatedPeer| {
                                (peer.port, peer.transport(), peer.address.clone(), peer.count)
                            };
                            let peers = told.peers.into_iter().map(peer).collect();
                            shared.state.lock().unwrap().peers.push(peers);
                        }
                        Some(from_agent::Message::Draining(_)) => {
                            shared.state.lock().unwrap().drains += 1;
                            return;
                        }
                        _ => return,
                    },
                    _ = changes.changed() => {}
                }
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver))))
    }

    async fn sign_certificate(
        &self,
        request: Request<SignCertificateRequest>,
    ) -> Result<Response<SignCertificateResponse>, Status> {
        self.authenticate(&request)?;
        let request = request.into_inner();
        assert_eq!(request.node_id, NODE_ID);
        let mut state = self.state.lock().unwrap();
        state.signed += 1;
        let Some((authority, lifetime)) = &state.authority else {
            return Err(Status::failed_precondition("mutual TLS is off"));
        };
        let chain = authority
            .sign(&request.csr, &spiffe_id(), *lifetime, Timestamp::now())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Response::new(SignCertificateResponse { chain, signer: authority.signer().into() }))
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Shared {
    type StreamAggregatedResourcesStream = Out<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Out<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        self.authenticate(&request)?;
        let mut incoming = request.into_inner();
        let (outgoing, receiver) = mpsc::unbounded_channel();
        let shared = self.clone();
        tokio::spawn(async move {
            let mut changes = shared.changes.subscribe();
            let mut stream = Discovery::default();
            loop {
                let responses = stream.responses(&shared.state.lock().unwrap().resources);
                for response in responses {
                    let _ = outgoing.send(Ok(response));
                }
                tokio::select! {
                    request = incoming.message() => match request {
                        Ok(Some(request)) => stream.heard(request, &mut shared.state.lock().unwrap()),
                        _ => return,
                    },
                    _ = changes.changed() => {}
                }
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver))))
    }
}

/// One delta stream.
#[derive(Default)]
struct Discovery {
    /// By type that was asked for: what the agent has or is being sent.
    sent: BTreeMap<ResourceType, BTreeMap<String, String>>,
    answered: BTreeSet<ResourceType>,
    nonces: u64,
    open: BTreeMap<String, Vec<(String, String)>>,
}

impl Discovery {
    fn heard(&mut self, request: DeltaDiscoveryRequest, state: &mut State) {
        let resource_type = ResourceType::from_type_url(&request.type_url).unwrap();
        if let Some(node) = &request.node {
            assert_eq!(node.id, NODE_ID);
            state.held.clear();
            state.acked.clear();
        }
        if request.response_nonce.is_empty() {
            let held: BTreeMap<_, _> = request.initial_resource_versions.into_iter().collect();
            let stated = held.iter().map(|(name, version)| ((resource_type, name.clone()), version.clone()));
            state.acked.extend(stated);
            state.held.insert(resource_type, held.clone());
            self.sent.insert(resource_type, held);
            return;
        }
        let adds = self.open.remove(&request.response_nonce).expect("an answer answers something");
        match request.error_detail {
            Some(error) => state.nacks.push((resource_type, error.message)),
            None => {
                state.acked.extend(adds.into_iter().map(|(name, version)| ((resource_type, name), version)));
            }
        }
    }

    fn responses(&mut self, resources: &Resources) -> Vec<DeltaDiscoveryResponse> {
        let mut responses = Vec::new();
        for resource_type in ResourceType::ALL {
            let Some(sent) = self.sent.get_mut(&resource_type) else { continue };
            let wanted: BTreeMap<&String, &(String, Any)> = resources
                .iter()
                .filter(|((of, _), _)| *of == resource_type)
                .map(|((_, name), resource)| (name, resource))
                .collect();
            let changed = wanted.iter().filter(|(name, (version, _))| sent.get(**name) != Some(version));
            let adds: Vec<WireResource> = changed
                .map(|(name, (version, body))| WireResource {
                    name: (*name).clone(),
                    version: version.clone(),
                    resource: Some(body.clone()),
                    ..Default::default()
                })
                .collect();
            let removed_resources: Vec<_> =
                sent.keys().filter(|name| !wanted.contains_key(name)).cloned().collect();
            let first = self.answered.insert(resource_type);
            if adds.is_empty() && removed_resources.is_empty() && !first {
                continue;
            }
            *sent = wanted.iter().map(|(name, (version, _))| ((*name).clone(), version.clone())).collect();
            self.nonces += 1;
            let nonce = self.nonces.to_string();
            let open = adds.iter().map(|add| (add.name.clone(), add.version.clone())).collect();
            self.open.insert(nonce.clone(), open);
            responses.push(DeltaDiscoveryResponse {
                type_url: resource_type.type_url().into(),
                nonce,
                resources: adds,
                removed_resources,
                ..Default::default()
            });
        }
        responses
    }
}
