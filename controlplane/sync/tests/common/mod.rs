//! A global control plane on a loopback port, over TLS, with zones that behave and zones that do not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed set-up fails the test")]
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod fake;
pub(crate) mod link;
pub(crate) mod objects;
pub(crate) mod raw;
pub(crate) mod replica;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use ursa_crds::schema::Schemas;
use ursa_crds::{KINDS, Kind, Object, ObjectKey, Spec};
use ursa_identity::{ClientCerts, ServerTls, Tokens, ZoneClaims};
use ursa_index::SigningRequest;
use ursa_store::Store;
use ursa_sync::global::Global;
use ursa_sync::zone::{Connected, ZoneConfig};

/// What takes longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const HOUR: Duration = Duration::from_hours(1);

/// A gRPC server on a loopback port, and the file that it is trusted by.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) ca_file: PathBuf,
    pub(crate) folder: TempDir,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(routes: tonic::service::Routes) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let tls = ServerTls::generate(&["127.0.0.1".to_owned()], Timestamp::now()).unwrap();
        let folder = TempDir::new().unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, tls.ca_pem()).unwrap();
        let tls = tls.rustls_server_config(ClientCerts::Requested, &[b"h2"]).unwrap();
        let task = tokio::spawn(async move {
            let listener = ursa_listen::Listener::new(listener, tls);
            ursa_listen::serve(routes, listener, std::future::pending()).await.unwrap();
        });
        Self { address, ca_file, folder, task }
    }

    /// Starts the real end of a zone that connects to this address, with this token.
    pub(crate) fn start_zone(&self, zone: &str, address: &str, token: &str) -> Zone {
        self.start_replica(zone, address, token, Store::memory(), true)
    }

    /// The same as one of several replicas that share a store.
    pub(crate) fn start_replica(
        &self,
        zone: &str,
        address: &str,
        token: &str,
        store: Store,
        leads: bool,
    ) -> Zone {
        self.start_speaking(zone, address, token, store, leads, Schemas::OURS)
    }

    /// The same of a version that speaks these schemas.
    pub(crate) fn start_speaking(
        &self,
        zone: &str,
        address: &str,
        token: &str,
        store: Store,
        leads: bool,
        schemas: Schemas,
    ) -> Zone {
        let token_file = self.folder.path().join(format!("{zone}.token"));
        std::fs::write(&token_file, token).unwrap();
        let config = ZoneConfig {
            zone: zone.into(),
            global: format!("https://{address}"),
            ca_file: self.ca_file.clone(),
            token_file,
            schemas,
        };
        let (signing, requests) = mpsc::unbounded_channel();
        let leads = watch::Sender::new(leads);
        let connected = ursa_sync::zone::start(config, store.clone(), requests, leads.subscribe());
        Zone { store, connected, leads, signing }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The real end of a zone.
pub(crate) struct Zone {
    pub(crate) store: Store,
    pub(crate) connected: Connected,
    pub(crate) leads: watch::Sender<bool>,
    pub(crate) signing: mpsc::UnboundedSender<SigningRequest>,
}

impl Zone {
    pub(crate) async fn until_connected(&mut self, wanted: bool) {
        let wait = self.connected.wait_for(|link| link.is_connected() == wanted);
        timeout(PATIENCE, wait).await.expect("the connection never came to be like that").unwrap();
    }
}

/// A global control plane.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) global: Global,
    pub(crate) server: Server,
}

impl World {
    /// With the mesh `default` in it.
    pub(crate) async fn start() -> Self {
        let (store, tokens) = (Store::memory(), Arc::new(Tokens::generate().unwrap()));
        put(&store, objects::mesh()).await;
        Self::speaking(Schemas::OURS, store, tokens).await
    }

    /// Of a version that speaks these schemas, on a store that there is.
    pub(crate) async fn speaking(schemas: Schemas, store: Store, tokens: Arc<Tokens>) -> Self {
        let global = Global::new(store.clone(), tokens.clone(), watch::channel(true).1).speaking(schemas);
        let server = Server::start(global.routes()).await;
        Self { store, tokens, global, server }
    }

    /// For a zone that there is from now on.
    pub(crate) async fn token(&self, zone: &str) -> String {
        self.tokens.issue_zone(&self.claims(zone).await, HOUR, Timestamp::now()).unwrap().token
    }

    pub(crate) async fn claims(&self, zone: &str) -> ZoneClaims {
        let uid = match self.store.get(&ObjectKey::zone(zone)) {
            Some(known) => known.meta.uid.clone(),
            None => put(&self.store, objects::zone(zone, true)).await.meta.uid.clone(),
        };
        ZoneClaims { zone: zone.into(), uid }
    }

    /// The real end of a zone, connected.
    pub(crate) async fn zone(&self, zone: &str) -> Zone {
        let mut started = self.server.start_zone(zone, &self.server.address, &self.token(zone).await);
        started.until_connected(true).await;
        started
    }

    /// What the store holds, and at which revision.
    pub(crate) fn everything(&self) -> (u64, Vec<Arc<Object>>) {
        (self.store.revision(), objects_but(&self.store, &[]))
    }

    /// What somebody owns: the rest global observes of the zones while they come and go.
    pub(crate) fn owned(&self) -> Vec<Arc<Object>> {
        objects_but(&self.store, &[Kind::ZoneInsight])
    }

    /// Waits until global has seen that a zone is connected, or is not.
    pub(crate) async fn until_seen(&self, zone: &str, wanted: bool) {
        let key = global_key(Kind::ZoneInsight, zone);
        let seen = |store: &Store| match store.get(&key).as_deref() {
            Some(Object { spec: Spec::ZoneInsight(spec), .. }) => spec.connected == wanted,
            _ => false,
        };
        until(&self.store, "seen so", seen).await;
        assert_eq!(self.global.zones()[zone].connected, wanted);
    }
}

/// All objects of a store but those of some kinds, ordered.
pub(crate) fn objects_but(store: &Store, kinds: &[Kind]) -> Vec<Arc<Object>> {
    let listed = KINDS.iter().filter(|info| !kinds.contains(&info.kind));
    listed.flat_map(|info| store.list(info.kind)).collect()
}

/// Waits until a store is like this.
pub(crate) async fn until(store: &Store, what: &str, condition: impl Fn(&Store) -> bool) {
    let (_, mut changes) = store.watch();
    let wait = async {
        while !condition(store) {
            changes.next().await.unwrap();
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never {what}"));
}

pub(crate) async fn put(store: &Store, object: Object) -> Arc<Object> {
    store.put(object, None).await.unwrap().object
}

/// The key of an object in no mesh.
pub(crate) fn global_key(kind: Kind, name: &str) -> ObjectKey {
    ObjectKey { kind, mesh: String::new(), namespace: String::new(), name: name.into() }
}
