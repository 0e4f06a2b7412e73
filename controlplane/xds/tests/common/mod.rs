//! A zone's server for agents on a loopback port, over TLS, with clients that behave or do not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed set-up fails the test")]
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod agent;
pub(crate) mod certificates;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::{Code, Status};
use ursa_crds::{KINDS, Kind, Object, ObjectKey, Spec};
use ursa_identity::{ClientCerts, DataplaneClaims, ServerTls, Tokens};
use ursa_index::{Authority, Index};
use ursa_store::Store;
use ursa_xds::{Context, Reviewer};

use agent::Agent;

/// What takes longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const HOUR: Duration = Duration::from_hours(1);
pub(crate) const ZONE: &str = "east";

/// A zone's control plane, as far as agents see it.
///
/// Its meshes: `default` and `other` with mutual TLS, `plain` without. `default` has a dataplane `db-1` that no test
/// owns.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) index: Index,
    pub(crate) address: String,
    pub(crate) ca_file: PathBuf,
    _folder: TempDir,
    server: JoinHandle<()>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With these resources besides.
    pub(crate) async fn start_with(resources: &[String]) -> Self {
        Self::start_as(resources, None, None).await
    }

    /// Where sessions last this long at most.
    pub(crate) async fn start_aging(age: Duration) -> Self {
        Self::start_as(&[], None, Some(age)).await
    }

    /// Where pods prove who they are.
    pub(crate) async fn start_reviewed(resources: &[String], reviewer: Option<Reviewer>) -> Self {
        Self::start_as(resources, reviewer, None).await
    }

    async fn start_as(
        resources: &[String],
        reviewer: Option<Reviewer>,
        session_age: Option<Duration>,
    ) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let store = Store::memory();
        let given = [mesh("default", true), mesh("other", true), mesh("plain", false), db_1()];
        for yaml in given.iter().chain(resources) {
            put(&store, yaml).await;
        }
        let authority = Arc::new(Authority::standalone(store.clone(), ZONE));
        let index = Index::start(store.clone(), authority.clone());
        let tokens = Arc::new(Tokens::generate().unwrap());
        let context = Context {
            zone: ZONE.into(),
            store: store.clone(),
            index: index.clone(),
            authority: authority.clone(),
            tokens: tokens.clone(),
            reviewer,
            session_age,
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let tls = ServerTls::generate(&["127.0.0.1".to_owned()], Timestamp::now()).unwrap();
        let folder = TempDir::new().unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, tls.ca_pem()).unwrap();
        let tls = tls.rustls_server_config(ClientCerts::Requested, &[b"h2"]).unwrap();
        let server = tokio::spawn(async move {
            let never = std::future::pending();
            let listener = ursa_listen::Listener::new(listener, tls);
            ursa_listen::serve(ursa_xds::routes(context), listener, never).await.unwrap();
        });
        let world = Self { store, tokens, authority, index, address, ca_file, _folder: folder, server };
        for mesh in ["default", "other", "plain"] {
            // Written last at the start: from here on only agents make the store change.
            for kind in [Kind::MeshZone, Kind::MeshZoneInsight] {
                world.until(|store| store.get(&ObjectKey::in_mesh(kind, mesh, ZONE)).is_some()).await;
            }
        }
        world
    }

    /// Waits until the store is like this.
    pub(crate) async fn until(&self, condition: impl Fn(&Store) -> bool) {
        let (_, mut changes) = self.store.watch();
        let wait = async {
            while !condition(&self.store) {
                changes.next().await.unwrap();
            }
        };
        timeout(PATIENCE, wait).await.expect("the store never came to be like that");
    }

    /// A valid token with these claims.
    pub(crate) fn token(&self, claims: &DataplaneClaims) -> String {
        self.tokens.issue_dataplane(claims, HOUR, Timestamp::now()).unwrap().token
    }

    /// A token for one dataplane, whatever it serves.
    pub(crate) fn token_of(&self, mesh: &str, name: &str) -> String {
        self.token(&claims(mesh, Some(name), &[]))
    }

    /// An agent with this token, on a connection of its own.
    pub(crate) async fn agent(&self, token: &str) -> Agent {
        let channel = ursa_proto::connect(&self.address, &self.ca_file).await.unwrap();
        Agent { channel, authorization: Some(format!("Bearer {token}")) }
    }

    /// What the store holds, and at which revision.
    pub(crate) fn everything(&self) -> (u64, Vec<Arc<Object>>) {
        let objects = KINDS.iter().flat_map(|info| self.store.list(info.kind)).collect();
        (self.store.revision(), objects)
    }

    /// What agents have registered: the rest changes by itself while they are connected.
    pub(crate) fn registered(&self) -> Vec<Arc<Object>> {
        [Kind::Dataplane, Kind::ZoneIngress].into_iter().flat_map(|kind| self.store.list(kind)).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub(crate) async fn put(store: &Store, yaml: &str) {
    let object = ursa_crds::decode(yaml.as_bytes()).unwrap();
    assert_eq!(ursa_policy::validate(&object), [], "{yaml}");
    store.put(object, None).await.unwrap();
}

/// What a refusal must be.
#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(
    what: &str,
    result: Result<T, Status>,
    code: Code,
    words: &[&str],
) -> Status {
    let status = match result {
        Err(status) => status,
        Ok(taken) => panic!("{what}: it was taken: {taken:?}"),
    };
    assert_eq!(status.code(), code, "{what}: {status:?}");
    for word in words {
        assert!(status.message().contains(word), "{what}: no {word:?} in {:?}", status.message());
    }
    status
}

pub(crate) fn claims(mesh: &str, name: Option<&str>, services: &[&str]) -> DataplaneClaims {
    DataplaneClaims {
        mesh: mesh.into(),
        zone: None,
        name: name.map(Into::into),
        services: services.iter().map(|&service| service.into()).collect(),
        tags: BTreeMap::new(),
    }
}

pub(crate) fn mesh(name: &str, mtls: bool) -> String {
    let spec =
        if mtls { "{mtls: {enabledBackend: ca-1, backends: [{name: ca-1, type: Builtin}]}}" } else { "{}" };
    format!("apiVersion: ursamesh.io/v1alpha1\nkind: Mesh\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn db_1() -> String {
    dataplane("default", "db-1", "db", "10.0.0.9", 5432, None)
}

/// A dataplane with one inbound, whose application has the port above the proxy's, and perhaps an outbound.
pub(crate) fn dataplane(
    mesh: &str,
    name: &str,
    service: &str,
    address: &str,
    port: u16,
    calls: Option<&str>,
) -> String {
    let outbound = calls.map_or_else(String::new, |called| {
        format!("\n    outbound: [{{port: 20000, tags: {{ursamesh.io/service: {called}}}}}]")
    });
    format!(
        "apiVersion: ursamesh.io/v1alpha1\nkind: Dataplane\nmetadata: {{name: {name}}}\nspec:\n  mesh: {mesh}\n  \
         networking:\n    address: {address}\n    inbound: [{{port: {port}, servicePort: {}, tags: {{ursamesh.io/service: {service}}}}}]{outbound}\n",
        port + 1
    )
}

/// The dataplane `web-1` of service `web` in the mesh `default`.
pub(crate) fn web_1() -> String {
    dataplane("default", "web-1", "web", "10.0.0.1", 8080, None)
}

pub(crate) fn zone_ingress(name: &str) -> String {
    format!(
        "apiVersion: ursamesh.io/v1alpha1\nkind: ZoneIngress\nmetadata: {{name: {name}}}\nspec:\n  networking: {{address: 10.0.0.2}}\n"
    )
}

/// Names of the dataplanes of a mesh that the store holds.
pub(crate) fn dataplanes(store: &Store, mesh: &str) -> BTreeSet<String> {
    let listed = store.list_in_mesh(Kind::Dataplane, mesh);
    let of_mesh = |object: &Arc<Object>| matches!(&object.spec, Spec::Dataplane(spec) if spec.mesh == mesh);
    assert!(listed.iter().all(of_mesh));
    listed.iter().map(|object| object.meta.name.clone()).collect()
}
