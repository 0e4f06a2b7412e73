//! A control plane's API on a loopback port, and the built binary beside it.
#![allow(clippy::unwrap_used, reason = "a failed set-up fails the test")]
#![allow(dead_code, reason = "each test binary uses a part")]

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;
use ursa_api::{ApiState, Mode, ServerInfo, router};
use ursa_crds::{Kind, ObjectKey};
use ursa_identity::{ClientCerts, ServerTls, Tokens, UserClaims};
use ursa_store::Store;

/// A run that takes longer has failed.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) const MESH: &str = "apiVersion: ursamesh.io/v1alpha1\nkind: Mesh\nmetadata: {name: default}\n";

/// A permission for everybody.
pub(crate) fn permission(name: &str) -> String {
    let all = "[{match: {ursamesh.io/service: '*'}}]";
    format!(
        "apiVersion: ursamesh.io/v1alpha1\nkind: TrafficPermission\nmetadata: {{name: {name}}}\nspec:\n  sources: {all}\n  destinations: {all}\n"
    )
}

/// A control plane, and the home folder of a user with an admin's token.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) url: String,
    /// The authority of its TLS, PEM; empty with plain HTTP.
    pub(crate) ca: String,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    home: TempDir,
    server: JoinHandle<()>,
}

/// What zones would trust the control plane by.
pub(crate) const AUTHORITIES: &str = "the authorities, as PEM\n";

impl World {
    /// Over plain HTTP, with the mesh `default`.
    pub(crate) async fn start() -> Self {
        Self::start_as(Mode::Standalone).await
    }

    /// The same of a control plane of this mode.
    pub(crate) async fn start_as(mode: Mode) -> Self {
        let world = Self::serve(mode, None);
        let mesh = ursa_crds::decode(MESH.as_bytes()).unwrap();
        world.store.put(mesh, None).await.unwrap();
        world
    }

    /// Over HTTPS, as `localhost` only.
    pub(crate) fn start_tls() -> Self {
        Self::serve(
            Mode::Standalone,
            Some(ServerTls::generate(&["localhost".to_owned()], Timestamp::now()).unwrap()),
        )
    }

    fn serve(mode: Mode, tls: Option<ServerTls>) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (store, tokens) = (Store::memory(), Arc::new(Tokens::generate().unwrap()));
        let info =
            ServerInfo { version: "7.8.9".into(), mode, zone: "east".into(), instance: "host-1".into() };
        let home = tempfile::tempdir().unwrap();
        let ca_file = home.path().join("authorities.pem");
        std::fs::write(&ca_file, AUTHORITIES).unwrap();
        let state =
            ApiState::new(store.clone(), tokens.clone(), info, Vec::new()).with_ca_file(Some(ca_file));
        let app = router(state, axum::Router::new()).into_make_service();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let ca = tls.as_ref().map(|tls| tls.ca_pem().to_owned()).unwrap_or_default();
        let url = match tls {
            Some(_) => format!("https://localhost:{}", address.port()),
            None => format!("http://{address}"),
        };
        let server = tokio::spawn(async move {
            match tls {
                Some(tls) => {
                    let config = tls.rustls_server_config(ClientCerts::None, &[b"http/1.1"]).unwrap();
                    let config = axum_server::tls_rustls::RustlsConfig::from_config(config);
                    axum_server::from_tcp_rustls(listener, config).unwrap().serve(app).await.unwrap();
                }
                None => axum_server::from_tcp(listener).unwrap().serve(app).await.unwrap(),
            }
        });
        let world = Self { store, tokens, url, ca, address, home, server };
        world.file("token", &world.token(&["admin"]));
        world
    }

    /// A user's token.
    pub(crate) fn token(&self, groups: &[&str]) -> String {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let claims = UserClaims { name: "someone".into(), groups };
        self.tokens.issue_user(&claims, Duration::from_mins(10), Timestamp::now()).unwrap().token
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file; its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs ursactl against the API, as the admin.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        self.pipe(arguments, "").await
    }

    /// Runs ursactl against the API with this standard input.
    pub(crate) async fn pipe(&self, arguments: &[&str], input: &str) -> Ran {
        let token = self.path("token");
        self.run_with(
            arguments,
            &[("URSA_API", &self.url), ("URSA_TOKEN_FILE", token.to_str().unwrap())],
            input,
        )
        .await
    }

    /// Runs ursactl with nothing in the environment but these and the home.
    pub(crate) async fn run_with(
        &self,
        arguments: &[&str],
        environment: &[(&str, &str)],
        input: &str,
    ) -> Ran {
        run_in(self.home.path(), arguments, environment, input).await
    }

    /// Whether the store has the permission.
    pub(crate) fn has(&self, permission: &str) -> bool {
        self.store.get(&ObjectKey::in_mesh(Kind::TrafficPermission, "default", permission)).is_some()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Runs ursactl.
pub(crate) async fn run_in(
    home: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
    input: &str,
) -> Ran {
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_ursactl"))
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        // Must not matter: a proxy would see the token.
        .env("http_proxy", "http://127.0.0.1:9")
        .env("https_proxy", "http://127.0.0.1:9")
        .envs(environment.iter().copied())
        .current_dir(home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It need not read its input.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let Output { status, stdout, stderr } =
        tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap();
    Ran {
        code: status.code().expect("it ends by itself"),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// The standard output of a run that went well.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    /// The standard error of a run that failed with the code.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        assert!(!self.err.is_empty());
        self.err
    }
}
