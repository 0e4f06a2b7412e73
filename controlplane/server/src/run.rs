//! Wires the parts together and runs them until a signal.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use ursa_api::{ApiState, ServerInfo};
use ursa_crds::{DEFAULT_MESH, MeshSpec, Meta, Object, Spec};
use ursa_identity::{ClientCerts, ServerTls, Tokens, UserClaims};
use ursa_index::{Authority, Index};
use ursa_store::Store;

use crate::config::{Config, Mode};
use crate::diagnostics::{self, Diagnostics};
use crate::files;

/// How long open streams and requests may take to end.
const GRACE: Duration = Duration::from_secs(2);
const ADMIN_TOKEN_LIFETIME: Duration = Duration::from_hours(8760);

pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    files::private_folder(&config.data_dir)?;
    let store = Store::open(&config.data_dir.join("store.redb"))?;
    let first_start = store.private("initialized").is_none();
    let tokens = Arc::new(tokens(&store).await?);
    let tls = server_tls(&store, &config).await?;
    write_admin_token(&config.data_dir, &tokens)?;
    if first_start {
        let object = Object {
            meta: Meta { name: DEFAULT_MESH.into(), ..Meta::default() },
            spec: Spec::Mesh(MeshSpec::default()),
        };
        store.put(object, None).await?;
        store.private_put("initialized", Vec::new()).await?;
    }

    let authority = Arc::new(Authority::new(store.clone(), &config.zone));
    let index = Index::start(store.clone(), authority.clone());
    let ready = Arc::new(AtomicBool::new(false));
    let stop = CancellationToken::new();
    let mut servers = tokio::task::JoinSet::new();

    let diagnostics = diagnostics::router(Diagnostics { store: store.clone(), ready: ready.clone() });
    let listener = bind(config.diagnostics_address, "--diagnostics-address").await?;
    servers.spawn(http(listener, diagnostics, stop.clone()));

    let api = ursa_api::router(ApiState::new(
        store.clone(),
        tokens.clone(),
        ServerInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            mode: match config.mode {
                Mode::Standalone => "standalone".into(),
            },
            zone: config.zone.clone(),
            instance: std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().into(),
        },
        config.server_names(),
    ));
    let listener = bind(config.api_http, "--api-http").await?;
    servers.spawn(http(listener, api.clone(), stop.clone()));
    let https = tls.rustls_server_config(ClientCerts::None, &[b"h2", b"http/1.1"])?;
    let listener = bind(config.api_https, "--api-https").await?;
    servers.spawn(self::https(listener, https, api, stop.clone()));

    let agents = tls.rustls_server_config(ClientCerts::Requested, &[b"h2"])?;
    let listener = bind(config.agent_address, "--agent-address").await?;
    let context = ursa_xds::Context { zone: config.zone.clone(), store, index, authority, tokens };
    let stopped = stop.clone();
    servers.spawn(async move {
        let serving = ursa_xds::serve(context, listener, agents, stopped.clone().cancelled_owned());
        tokio::select! {
            result = serving => result.context("the server for agents failed"),
            // Agents' streams never end by themselves.
            () = after(stopped, GRACE) => Ok(()),
        }
    });

    ready.store(true, Ordering::Release);
    tracing::info!(zone = config.zone, api = %config.api_http, agents = %config.agent_address, "ready");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let result = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        // A server that ends before the signal is an error.
        Some(result) = servers.join_next() => match result? {
            Ok(()) => Err(anyhow::anyhow!("a server ended by itself")),
            Err(error) => Err(error),
        },
    };
    ready.store(false, Ordering::Release);
    stop.cancel();
    tracing::info!("stopping");
    let _ = tokio::time::timeout(GRACE * 2, servers.join_all()).await;
    result
}

async fn tokens(store: &Store) -> anyhow::Result<Tokens> {
    let made = Tokens::generate()?.private_pem().as_bytes().to_vec();
    let stored = store.private_get_or_insert("token-signing-key", made).await?;
    Ok(Tokens::from_private_pem(std::str::from_utf8(&stored)?)?)
}

/// The server's certificate, made at first start and renewed at a start when it is old or its names changed.
async fn server_tls(store: &Store, config: &Config) -> anyhow::Result<ServerTls> {
    let names = config.server_names();
    let now = Timestamp::now();
    let tls = match store.private("server-tls") {
        None => ServerTls::generate(&names, now)?,
        Some(stored) => ServerTls::from_private_json(std::str::from_utf8(&stored)?)?.renewed(&names, now)?,
    };
    store.private_put("server-tls", tls.to_private_json().into_bytes()).await?;
    let folder = config.data_dir.join("tls");
    files::private_folder(&folder)?;
    files::write(&folder.join("ca.pem"), tls.ca_pem(), 0o644)?;
    Ok(tls)
}

/// Writes the admin token where the machine's administrator finds it, unless a valid one is there.
fn write_admin_token(data_dir: &Path, tokens: &Tokens) -> anyhow::Result<()> {
    let path = data_dir.join("admin-token");
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

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} ({flag})"))
}

async fn http(listener: TcpListener, router: axum::Router, stop: CancellationToken) -> anyhow::Result<()> {
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    tokio::select! {
        result = serving => Ok(result?),
        () = after(stop, GRACE) => Ok(()),
    }
}

async fn https(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    router: axum::Router,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let handle = axum_server::Handle::new();
    let server = axum_server::from_tcp_rustls(
        listener.into_std()?,
        axum_server::tls_rustls::RustlsConfig::from_config(tls),
    )?
    .handle(handle.clone())
    .serve(router.into_make_service());
    tokio::spawn(async move {
        stop.cancelled().await;
        handle.graceful_shutdown(Some(GRACE));
    });
    Ok(server.await?)
}

async fn after(stop: CancellationToken, grace: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(grace).await;
}
