//! What containers use.

use serde_json::Value;

use super::kubectl;

/// What a container uses, as the kubelet sees it.
#[derive(Debug)]
pub struct Usage {
    /// The pod's.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// The container's name.
    pub container: String,
    /// Thousandths of a core, over the last some ten seconds.
    pub millicores: u64,
    /// What of its memory is in use.
    pub mebibytes: u64,
}

/// What all containers use.
pub async fn usage() -> anyhow::Result<Vec<Usage>> {
    let mut all = Vec::new();
    let nodes = kubectl(&["get", "nodes", "--output", "jsonpath={.items[*].metadata.name}"]).await?;
    for node in nodes.split_whitespace() {
        let path = format!("/api/v1/nodes/{node}/proxy/stats/summary");
        let summary: Value = serde_json::from_str(&kubectl(&["get", "--raw", &path]).await?)?;
        for pod in summary["pods"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            for container in pod["containers"].as_array().into_iter().flatten() {
                all.push(Usage {
                    namespace: text(&pod["podRef"]["namespace"]),
                    pod: text(&pod["podRef"]["name"]),
                    container: text(&container["name"]),
                    millicores: container["cpu"]["usageNanoCores"].as_u64().unwrap_or_default() / 1_000_000,
                    mebibytes: container["memory"]["workingSetBytes"].as_u64().unwrap_or_default() >> 20,
                });
            }
        }
    }
    Ok(all)
}
