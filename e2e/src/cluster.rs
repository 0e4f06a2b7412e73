//! The Kubernetes cluster of the tests: the one that `KUBECONFIG` names (`make test` makes one by kind).

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use ursa_crds::{KINDS, Kind, Owner};

const MANAGER: &str = "ursa-e2e";

/// Kinds that control planes judge and that users, or the operator for them, write: each has samples.
pub fn judged_kinds() -> impl Iterator<Item = Kind> {
    let written = |kind: &Kind| kind.info().owner.is_users() || kind.info().owner == Owner::Zone;
    let kinds = KINDS.iter().map(|info| info.kind).filter(written);
    kinds.filter(|kind| !matches!(kind, Kind::Secret | Kind::MeshZone))
}

/// The cluster, where `make test` has installed Ursa's definitions, and a namespace of the test's own.
#[derive(Clone)]
pub struct Cluster {
    /// For what this type has no shorter way.
    pub client: Client,
    /// The test's namespace.
    pub namespace: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Cluster {
    /// With a namespace whose name starts with the test's.
    pub async fn connect(test: &str) -> anyhow::Result<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client =
            Client::try_default().await.context("no cluster: set KUBECONFIG, as `make test` does")?;
        let object = serde_json::from_value(json!({"metadata": {"generateName": format!("{test}-")}}))?;
        let namespace = Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await?;
        println!("namespace: {}", namespace.name_any());
        Ok(Self { client, namespace: namespace.name_any() })
    }

    /// Objects of a kind: those of the test's namespace, if they are in any.
    pub fn api(&self, kind: Kind) -> Api<DynamicObject> {
        let info = kind.info();
        let gvk = GroupVersionKind::gvk("ursamesh.io", "v1alpha1", info.name);
        let resource = ApiResource::from_gvk_with_plural(&gvk, info.plural);
        if info.namespaced {
            Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        }
    }

    /// As `kubectl apply --server-side` of one document.
    pub async fn apply(&self, yaml: &str) -> anyhow::Result<DynamicObject> {
        let document = parse(yaml)?;
        let (kind, name) = kind_and_name(&document)?;
        let params = PatchParams::apply(MANAGER).force();
        Ok(self.api(kind).patch(&name, &params, &Patch::Apply(&document)).await?)
    }

    /// As `kubectl create` of one document.
    pub async fn create(&self, document: &Value) -> Result<DynamicObject, kube::Error> {
        let (kind, _) = kind_and_name(document).map_err(|error| kube::Error::Service(error.into()))?;
        let object = serde_json::from_value(document.clone()).map_err(kube::Error::SerdeError)?;
        self.api(kind).create(&PostParams::default(), &object).await
    }

    /// Deletes an object.
    pub async fn delete(&self, kind: Kind, name: &str) -> anyhow::Result<()> {
        self.api(kind).delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// The columns and the row that `kubectl get` shows of an object.
    pub async fn columns(&self, kind: Kind, name: &str) -> anyhow::Result<Vec<(String, Value)>> {
        self.columns_at(&format!("{}/{name}", self.api(kind).resource_url())).await
    }

    /// The same of an object of Ursa's by its path below the group's version.
    pub async fn columns_of(&self, object: &str) -> anyhow::Result<Vec<(String, Value)>> {
        self.columns_at(&format!("/apis/{}/{object}", ursa_crds::API_VERSION)).await
    }

    async fn columns_at(&self, path: &str) -> anyhow::Result<Vec<(String, Value)>> {
        let request = http::Request::get(path)
            .header("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")
            .body(Vec::new())?;
        let table: Value = self.client.request(request).await?;
        let titles = table["columnDefinitions"].as_array().context("no columns")?;
        let cells = table["rows"][0]["cells"].as_array().context("no row")?;
        Ok(titles
            .iter()
            .map(|t| t["name"].as_str().unwrap_or_default().to_owned())
            .zip(cells.iter().cloned())
            .collect())
    }

    /// Removes the namespace with all that is in it, without waiting for it.
    pub async fn end(self) -> anyhow::Result<()> {
        let api = Api::<Namespace>::all(self.client);
        api.delete(&self.namespace, &DeleteParams::background()).await?;
        Ok(())
    }
}

/// One document of YAML.
pub fn parse(yaml: &str) -> anyhow::Result<Value> {
    let documents = ursa_crds::parse_documents(yaml.as_bytes())?;
    documents.into_iter().next().context("no document")
}

fn kind_and_name(document: &Value) -> anyhow::Result<(Kind, String)> {
    let kind = Kind::by_name(document["kind"].as_str().unwrap_or_default()).context("a kind of Ursa's")?;
    Ok((kind, document["metadata"]["name"].as_str().context("a name")?.to_owned()))
}
