//! A namespace of a test's own on a real API server, and the operator in it with no more rights than it is installed with.

use std::fmt::Debug;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use kube::{Client, Resource, ResourceExt as _};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use ursa_operator::cluster::RESOURCES;
use ursa_operator::install::Installation;

/// For what takes a few round trips.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    folder: TempDir,
}

impl World {
    /// With a namespace, restricted by Pod Security, and the operator's rights in it.
    pub(crate) async fn new(test: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::try_default().await.expect("KUBECONFIG names a cluster: see `make test`");
        let installation = Installation { namespace: String::new(), ..Installation::released() };
        let mut object = installation.namespace();
        object["metadata"]["name"] = Value::Null;
        object["metadata"]["generateName"] = json!(format!("operator-{test}-"));
        let object = serde_json::from_value(object).unwrap();
        let namespaces = Api::<Namespace>::all(client.clone());
        let namespace = namespaces.create(&PostParams::default(), &object).await.unwrap().name_any();
        println!("namespace: {namespace}");
        let world = Self { client, namespace: namespace.clone(), folder: tempfile::tempdir().unwrap() };
        for object in (Installation { namespace, ..installation }).rbac() {
            world.apply(&object).await.unwrap();
        }
        world
    }

    fn operator_role(&self) -> String {
        format!("{}.ursa-operator", self.namespace)
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Objects of a kind that the operator makes.
    pub(crate) fn dynamic(&self, kind: &str) -> Api<DynamicObject> {
        let (version, _, plural) = RESOURCES.iter().find(|(_, known, _)| *known == kind).unwrap();
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        if kind.starts_with("Cluster") || kind.ends_with("WebhookConfiguration") {
            return Api::all_with(self.client.clone(), &resource);
        }
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// As an administrator, by server-side apply.
    pub(crate) async fn apply(&self, object: &Value) -> Result<DynamicObject, kube::Error> {
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        let params = PatchParams::apply("administrator").force();
        self.dynamic(kind).patch(name, &params, &Patch::Apply(object)).await
    }

    /// Starts an operator that the API server takes for the ServiceAccount, by impersonation.
    pub(crate) async fn operator(&self, identity: &str) -> Operator {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let child = Command::new(env!("CARGO_BIN_EXE_ursa-operator"))
            .args([
                "run",
                "--namespace",
                &self.namespace,
                "--identity",
                identity,
                "--diagnostics-address",
                &address,
            ])
            .args(["--image", "ursa.invalid/ursa:9.9.9", "--dataplane-image", "ursa.invalid/ursa-dp:9.9.9"])
            .env("KUBECONFIG", self.kubeconfig())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let operator = Operator { child, address };
        eventually("the operator is ready", SOON, async || operator.is_ready().await).await;
        operator
    }

    fn kubeconfig(&self) -> PathBuf {
        let path = std::env::var("KUBECONFIG").expect("KUBECONFIG");
        let mut config: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for user in config["users"].as_array_mut().unwrap() {
            user["user"]["as"] = json!(format!("system:serviceaccount:{}:ursa-operator", self.namespace));
        }
        let path = self.folder.path().join("kubeconfig");
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// Removes what the test made.
    pub(crate) async fn end(self) {
        let params = DeleteParams::background();
        let name = self.operator_role();
        Api::<ClusterRoleBinding>::all(self.client.clone()).delete(&name, &params).await.unwrap();
        Api::<ClusterRole>::all(self.client.clone()).delete(&name, &params).await.unwrap();
        Api::<Namespace>::all(self.client).delete(&self.namespace, &params).await.unwrap();
    }
}

/// A process, which ends with the value.
pub(crate) struct Operator {
    child: Child,
    address: String,
}

impl Operator {
    pub(crate) async fn is_ready(&self) -> Option<()> {
        self.get("/readyz").await?.starts_with("HTTP/1.1 200").then_some(())
    }

    pub(crate) async fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.address).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    /// As Kubernetes ends it.
    pub(crate) fn terminate(&mut self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until there is something.
pub(crate) async fn eventually<T>(
    what: &str,
    within: Duration,
    mut check: impl AsyncFnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < end, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The object of this name, once it is as it is to be.
pub(crate) async fn becomes<K>(api: &Api<K>, name: &str, what: &str, check: impl Fn(&K) -> bool) -> K
where
    K: Clone + DeserializeOwned + Debug,
{
    eventually(&format!("{name}: {what}"), SOON, async || api.get_opt(name).await.unwrap().filter(&check))
        .await
}
