//! Wires the parts together and runs them until a signal.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use ursa_api::{ApiState, ServerInfo};
use ursa_crds::{DEFAULT_MESH, MeshSpec, Meta, Object, Spec};
use ursa_discovery::{IngressesOf, follow_ingresses};
use ursa_identity::{ClientCerts, ServedCertificate, ServerTls, Tokens, UserClaims};
use ursa_index::{Authority, Index, SigningRequest};
use ursa_listen::Listener;
use ursa_store::names::{INITIALIZED, SERVER_TLS, TOKEN_SIGNING_KEY};
use ursa_store::{KubernetesConfig, Store};
use ursa_sync::global::Global;
use ursa_sync::replicas::{Replicas, Trust};
use ursa_sync::zone::ZoneConfig;
use ursa_xds::Reviewer;

use crate::config::{Config, GlobalAddress, Mode, StoreType};
use crate::diagnostics::{self, Diagnostics};
use crate::keys::Keys;
use crate::leader::Leadership;
use crate::programmed::Reporter;
use crate::servers::Servers;
use crate::{connection, files, leader, tls_files, tls_secret, zone_status, zones};

/// The file of the data folder with the administrator's token.
pub(crate) const ADMIN_TOKEN: &str = "admin-token";
/// The file of the data folder with the authority of the certificate that the control plane made for itself.
const CA_FILE: &str = "tls/ca.pem";
/// The API server has this long to list the zone ingresses.
const LISTED_WITHIN: Duration = Duration::from_mins(1);
/// How long a replica serves on after it was told to end: until every node has heard that it is gone.
const KEEP_SERVING: Duration = Duration::from_secs(5);

const ADMIN_TOKEN_LIFETIME: Duration = Duration::from_hours(8760);

pub(crate) async fn run(mut config: Config) -> anyhow::Result<()> {
    files::private_folder(&config.data_dir)?;
    tls_secret::follow(&mut config).await?;
    let store = open_store(&config).await?;
    let tokens = Arc::new(tokens(&store).await?);
    let tls = server_tls(&store, &config).await?;
    write_admin_token(&config.data_dir, &tokens)?;
    let own_tls = config.tls_files.is_none().then(|| (tls.clone(), config.server_names()));
    let (data_dir, keys) = (config.data_dir.clone(), tokens.clone());
    Keys { store: store.clone(), tokens: keys, own_tls, data_dir }.follow();
    if config.mode != Mode::Zone {
        make_default_mesh(&store).await?;
    }
    let ready = Arc::new(AtomicBool::new(false));
    let mut servers = Servers { stop: CancellationToken::new(), tasks: tokio::task::JoinSet::new() };

    let diagnostics = diagnostics::router(Diagnostics { store: store.clone(), ready: ready.clone() });
    servers.http(bind(config.diagnostics_address, "--diagnostics-address").await?, diagnostics);
    let mut state = api_state(&config, &store, &tokens);
    let leading = lead(&config, &servers).await?;
    let leads = leading.as_ref().map_or_else(|| watch::channel(true).1, |lead| lead.leads.clone());
    if config.store == StoreType::Kubernetes && config.mode != Mode::Zone {
        let own_zone = Some(config.zone.clone()).filter(|_| config.mode == Mode::Standalone);
        let namespace = config.namespace.clone();
        Reporter { client: client().await?, store: store.clone(), namespace, own_zone }.start(leads.clone());
    }
    let mut route = None;
    let further = match config.mode {
        Mode::Global => {
            route = leading.as_ref().map(|lead| lead.route(config.sync_address.port()));
            if config.store == StoreType::Kubernetes {
                zone_status::report(client().await?, store.clone(), leads.clone());
            }
            let global = Global::new(store.clone(), tokens.clone(), leads).speaking(config.schemas);
            let sync = bind(config.sync_address, "--sync-address").await?;
            servers.grpc(grpc(sync, &tls)?.routed(route), global.routes());
            route = leading.as_ref().map(|lead| lead.route(config.api_https.port()));
            zones::routes(store.clone(), global)
        }
        Mode::Standalone | Mode::Zone => {
            let mut zone_end = None;
            let authority = if config.mode == Mode::Zone {
                let (authority, requests) = Authority::of_zone(store.clone(), &config.zone);
                zone_end = Some(requests);
                authority
            } else {
                Authority::standalone(store.clone(), &config.zone)
            };
            let authority = Arc::new(authority);
            let index = Index::start_as_replica(store.clone(), authority.clone(), leads.clone());
            let reviewer = match config.store {
                StoreType::File => None,
                StoreType::Kubernetes => Some(discover(&config, &store, &index, leads.clone()).await?),
            };
            state = state.with_index(index.clone());
            let context = ursa_xds::Context {
                zone: config.zone.clone(),
                store: store.clone(),
                index: index.clone(),
                authority,
                tokens: tokens.clone(),
                reviewer,
                session_age: config.agent_session_age,
            };
            let mut routes = ursa_xds::routes(context);
            if let (Some(lead), Some(own)) = (&leading, &config.replica) {
                let leads = leads.clone();
                let replicas = Replicas::new(index, tokens.clone(), &config.namespace, &lead.identity, leads)
                    .speaking(config.schemas);
                routes = routes.add_service(replicas.service());
                let trust = Trust { ca_file: own.ca_file.clone(), server_name: own.service_name.clone() };
                replicas.follow(lead.leader.clone(), trust);
            }
            servers.grpc(grpc(bind(config.agent_address, "--agent-address").await?, &tls)?, routes);
            if let Some(requests) = zone_end {
                join_global(&config, store.clone(), requests, leads).await?;
            }
            Router::new()
        }
    };
    let api = ursa_api::router(state, further);
    servers.http(bind(config.api_http, "--api-http").await?, api.clone());
    let https = tls.rustls_server_config(ClientCerts::None, &[b"h2", b"http/1.1"])?;
    let https = Listener::new(bind(config.api_https, "--api-https").await?, https).routed(route);
    servers.https(https, api)?;
    ready.store(true, Ordering::Release);
    tracing::info!(mode = ?config.mode, zone = config.zone, api = %config.api_http, "ready");
    // Where systemd started it. Source: `sd_notify(3)`.
    sd_notify::notify(&[sd_notify::NotifyState::Ready]).context("cannot tell systemd that this is ready")?;
    let result = servers.until_signal().await;
    ready.store(false, Ordering::Release);
    if let Some(leading) = &leading {
        // At once: the pod of a node that is lost is given no time.
        leading.resign.cancel();
    }
    if config.replica.is_some() && result.is_ok() {
        tokio::time::sleep(KEEP_SERVING).await;
    }
    servers.stop().await;
    if let Some(Leadership { task, .. }) = leading {
        let _ = task.await;
    }
    result
}

/// Takes part in the choice of the replica that leads, where there may be several.
async fn lead(config: &Config, servers: &Servers) -> anyhow::Result<Option<Leadership>> {
    if config.store == StoreType::File {
        return Ok(None);
    }
    // Where the others reach this one: of all its ports the agents' one, which stands for the address.
    let port = config.agent_address.port();
    let address = config.replica.as_ref().map(|own| SocketAddr::new(own.ip, port).to_string());
    Ok(Some(leader::follow(&config.namespace, address, servers.stop.clone()).await?))
}

pub(crate) async fn client() -> anyhow::Result<kube::Client> {
    kube::Client::try_default().await.context("no Kubernetes cluster is configured")
}

fn grpc(socket: TcpListener, tls: &ServedCertificate) -> anyhow::Result<Listener> {
    Ok(Listener::new(socket, tls.rustls_server_config(ClientCerts::Requested, &[b"h2"])?))
}

/// Keeps the zone in step with global, while this replica leads, and tells on the ControlPlane how that stands.
async fn join_global(
    config: &Config,
    store: Store,
    signing: mpsc::UnboundedReceiver<SigningRequest>,
    leads: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let Some(GlobalAddress { address, ca_file, token_file }) = &config.global else { return Ok(()) };
    let zone = ZoneConfig {
        zone: config.zone.clone(),
        global: address.clone(),
        ca_file: ca_file.clone(),
        token_file: token_file.clone(),
        schemas: config.schemas,
    };
    let link = ursa_sync::zone::start(zone, store, signing, leads);
    if let Some(name) = &config.control_plane {
        let client = client().await?;
        connection::report(client, &config.namespace, name, address, link);
    }
    Ok(())
}

fn api_state(config: &Config, store: &Store, tokens: &Arc<Tokens>) -> ApiState {
    let (mode, zone) = match config.mode {
        Mode::Standalone => (ursa_api::Mode::Standalone, config.zone.clone()),
        Mode::Global => (ursa_api::Mode::Global, String::new()),
        Mode::Zone => (ursa_api::Mode::Zone, config.zone.clone()),
    };
    let instance = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let info = ServerInfo { version: env!("CARGO_PKG_VERSION").into(), mode, zone, instance };
    let ca_file = match (&config.replica, &config.tls_files) {
        (Some(own), _) => Some(own.ca_file.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(config.data_dir.join(CA_FILE)),
    };
    let reviews = config.store == StoreType::Kubernetes && config.mode != Mode::Zone;
    ApiState::new(store.clone(), tokens.clone(), info, config.server_names())
        .with_ca_file(ca_file)
        .with_reviews(reviews)
        .with_schema(config.schemas.newest)
}

/// At the first start; whoever deletes it later wants it gone.
async fn make_default_mesh(store: &Store) -> anyhow::Result<()> {
    if store.private(INITIALIZED).is_none() {
        let meta = Meta { name: DEFAULT_MESH.into(), ..Meta::default() };
        store.put(Object { meta, spec: Spec::Mesh(MeshSpec::default()) }, None).await?;
        store.private_put(INITIALIZED, Vec::new()).await?;
    }
    Ok(())
}

async fn tokens(store: &Store) -> anyhow::Result<Tokens> {
    let made = Tokens::generate()?.private_pem().as_bytes().to_vec();
    let stored = store.private_get_or_insert(TOKEN_SIGNING_KEY, made).await?;
    Ok(Tokens::from_private_pem(std::str::from_utf8(&stored)?)?)
}

/// The server's certificate: from files, or made at first start and renewed at a start when it is old or its names changed.
async fn server_tls(store: &Store, config: &Config) -> anyhow::Result<ServedCertificate> {
    if let Some(files) = &config.tls_files {
        return tls_files::serve(files.clone());
    }
    let names = config.server_names();
    let now = Timestamp::now();
    let tls = match store.private(SERVER_TLS) {
        None => ServerTls::generate(&names, now)?,
        Some(stored) => ServerTls::from_private_json(std::str::from_utf8(&stored)?)?.renewed(&names, now)?,
    };
    store.private_put(SERVER_TLS, tls.to_private_json().into_bytes()).await?;
    write_ca(&config.data_dir, &tls)?;
    Ok(tls.served()?)
}

/// Writes the authority of the server's certificate where agents and users find it.
pub(crate) fn write_ca(data_dir: &Path, tls: &ServerTls) -> anyhow::Result<()> {
    files::private_folder(&data_dir.join("tls"))?;
    files::write(&data_dir.join(CA_FILE), tls.ca_pem(), 0o644)
}

async fn open_store(config: &Config) -> anyhow::Result<Store> {
    Ok(match config.store {
        StoreType::File => Store::open_as(&config.data_dir.join("store.redb"), config.schemas.newest)?,
        StoreType::Kubernetes => {
            let config = KubernetesConfig {
                namespace: config.namespace.clone(),
                schema: config.schemas.newest,
                control_plane: config.control_plane.clone(),
            };
            Store::kubernetes(config).await?
        }
    })
}

/// Writes the admin token where the machine's administrator finds it, unless a valid one is there.
pub(crate) fn write_admin_token(data_dir: &Path, tokens: &Tokens) -> anyhow::Result<()> {
    let path = data_dir.join(ADMIN_TOKEN);
    let now = Timestamp::now();
    let valid =
        std::fs::read_to_string(&path).is_ok_and(|token| tokens.verify_user(token.trim(), now).is_ok());
    if valid {
        return Ok(());
    }
    let claims = UserClaims { name: "admin".into(), groups: vec!["admin".into()] };
    let issued = tokens.issue_user(&claims, ADMIN_TOKEN_LIFETIME, now)?;
    files::write(&path, &issued.token, 0o600)
}

/// Shows the cluster's pods as dataplanes, and the operator's zone ingresses; who proves to be one of them is asked of the
/// API server. The ingresses are known when it returns: global must not hear that there are none.
async fn discover(
    config: &Config,
    store: &Store,
    index: &Index,
    leads: watch::Receiver<bool>,
) -> anyhow::Result<Reviewer> {
    let client = client().await?;
    ursa_discovery::start(&client, store.clone(), index.clone());
    let of = IngressesOf { zone: config.zone.clone(), namespace: config.namespace.clone() };
    tokio::time::timeout(LISTED_WITHIN, follow_ingresses(&client, of, store.clone(), leads))
        .await
        .with_context(|| {
            format!("the API server did not list the zone ingresses within {LISTED_WITHIN:?}")
        })?;
    Ok(Reviewer::new(client, &config.namespace))
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} ({flag})"))
}
