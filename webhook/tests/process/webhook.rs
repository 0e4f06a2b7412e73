//! The webhook's process, with folders of its own.

use std::fs::{self, File};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Certificate, Client, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::folder::{Certificates, mount, settings};
use crate::wait::eventually;

/// A running webhook; it is killed when dropped.
pub(crate) struct Webhook {
    folder: TempDir,
    child: Child,
    /// `HOST:PORT`, over TLS.
    pub(crate) address: String,
    diagnostics: String,
    pub(crate) client: Client,
}

impl Webhook {
    /// Ready, with settings of the image `ursa:1`.
    pub(crate) async fn start(cluster: &Cluster) -> Self {
        let webhook = Self::start_with(cluster, &Certificates::new(), Some(&settings("ursa:1"))).await;
        webhook.ready().await;
        webhook
    }

    /// Listening, with these certificates, and settings if there are some.
    pub(crate) async fn start_with(
        cluster: &Cluster,
        certificates: &Certificates,
        settings: Option<&str>,
    ) -> Self {
        Self::start_at("127.0.0.1", &cluster.kubeconfig(), certificates, settings).await
    }

    /// Listening at this address, for the cluster of this kubeconfig.
    pub(crate) async fn start_at(
        address: &str,
        kubeconfig: &str,
        certificates: &Certificates,
        settings: Option<&str>,
    ) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        mount(&path("tls"), &certificates.files());
        if let Some(settings) = settings {
            mount(&path("settings"), &[("settings.yaml", settings)]);
        }
        fs::write(path("kubeconfig"), kubeconfig).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_ursa-webhook"))
            .args(["run", "--address", &format!("{address}:0"), "--diagnostics-address", "127.0.0.1:0"])
            .arg("--tls-cert-file")
            .arg(path("tls/tls.crt"))
            .arg("--tls-key-file")
            .arg(path("tls/tls.key"))
            .arg("--settings-file")
            .arg(path("settings/settings.yaml"))
            .env("KUBECONFIG", path("kubeconfig"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        let log = path("log");
        let port = async |field: &str| {
            let text = fs::read_to_string(&log).unwrap();
            let line = text.lines().find(|line| line.contains("listening"))?;
            let socket = line.split(&format!(" {field}=")).nth(1)?.split_whitespace().next()?;
            socket.rsplit_once(':').map(|(_, port)| port.to_owned())
        };
        let port_of = eventually("listening", async || port("address").await).await;
        let host = if address == "127.0.0.1" { "localhost" } else { address };
        let address = format!("{host}:{port_of}");
        let diagnostics = eventually("diagnostics", async || port("diagnostics").await).await;
        let client = client(&[certificates]);
        Self { folder, child, address, diagnostics: format!("http://127.0.0.1:{diagnostics}"), client }
    }

    /// Other certificates in place of the ones that it has.
    pub(crate) fn swap(&self, certificates: &Certificates) {
        mount(&self.folder.path().join("tls"), &certificates.files());
    }

    /// Other settings in place of the ones that it has.
    pub(crate) fn set(&self, settings: &str) {
        mount(&self.folder.path().join("settings"), &[("settings.yaml", settings)]);
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// What is answered to this review; anything but an answer is a failure.
    pub(crate) async fn ask(&self, path: &str, review: &Value) -> Value {
        let response = self.send(path, review.to_string()).await;
        assert_eq!(response.status(), StatusCode::OK, "{}", self.log());
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["kind"], "AdmissionReview");
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        answer["response"].clone()
    }

    pub(crate) async fn send(&self, path: &str, body: impl Into<reqwest::Body>) -> Response {
        let url = format!("https://{}{path}", self.address);
        self.client.post(url).body(body).send().await.unwrap()
    }

    /// Status and text of a path of the diagnostics.
    pub(crate) async fn diagnostics(&self, path: &str) -> (StatusCode, String) {
        let response = Client::new().get(format!("{}{path}", self.diagnostics)).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    pub(crate) async fn ready(&self) {
        let ready = async || (self.diagnostics("/readyz").await.0 == StatusCode::OK).then_some(());
        eventually("ready", ready).await;
    }

    /// The value of a metric, once it has this one.
    pub(crate) async fn metric(&self, line: &str) {
        let seen =
            async || self.diagnostics("/metrics").await.1.lines().any(|seen| seen == line).then_some(());
        eventually(line, seen).await;
    }

    pub(crate) fn terminate(&self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = std::cell::RefCell::new(&mut self.child);
        eventually("its end", async || child.borrow_mut().try_wait().unwrap()).await
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the webhook's log:\n{}", self.log());
        }
    }
}

/// Trusts these authorities and no others; each request has a connection of its own.
pub(crate) fn client(trusted: &[&Certificates]) -> Client {
    let certificates = trusted.iter().map(|it| Certificate::from_pem(it.authority.as_bytes()).unwrap());
    Client::builder().no_proxy().tls_certs_only(certificates).pool_max_idle_per_host(0).build().unwrap()
}
