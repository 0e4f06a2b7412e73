//! Custom resource definitions: installed and upgraded by the operator that leads.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::Api;
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::info;

use crate::cluster::{self, Ownership};
use crate::names::{MANAGED_BY, OPERATOR};

/// The API server has this long to serve a new kind.
const ESTABLISHED: Duration = Duration::from_secs(30);

/// Applies the definitions of all kinds and waits until the API server serves them.
pub(crate) async fn install(client: &Client) -> anyhow::Result<()> {
    let mut definitions: Vec<Value> =
        ursa_crds::definitions()?.into_iter().map(|definition| definition.value).collect();
    for definition in &mut definitions {
        definition["metadata"]["labels"] = json!({MANAGED_BY: OPERATOR});
    }
    cluster::apply(client, &definitions, Ownership::Shared).await?;
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    for definition in &definitions {
        let name = definition["metadata"]["name"].as_str().unwrap_or_default();
        timeout(ESTABLISHED, await_condition(api.clone(), name, is_crd_established()))
            .await
            .map_err(|_| anyhow::anyhow!("the API server did not take {name} within {ESTABLISHED:?}"))??;
    }
    info!(count = definitions.len(), "custom resource definitions are in force");
    Ok(())
}
