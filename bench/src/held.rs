//! The resources that a client holds, by version: what it says when it comes back.

use std::collections::HashMap;

use ursa_envoy::ResourceType;
use ursa_envoy::wire::DeltaDiscoveryResponse;

/// Names and versions of each type.
#[derive(Debug, Default)]
pub struct Held(HashMap<ResourceType, HashMap<String, String>>);

impl Held {
    /// Takes a response.
    pub fn take(&mut self, response: &DeltaDiscoveryResponse) -> anyhow::Result<()> {
        let known = ResourceType::from_type_url(&response.type_url);
        let known =
            known.ok_or_else(|| anyhow::anyhow!("a response of the unknown type {}", response.type_url))?;
        let held = self.0.entry(known).or_default();
        held.extend(response.resources.iter().map(|r| (r.name.clone(), r.version.clone())));
        for name in &response.removed_resources {
            held.remove(name);
        }
        Ok(())
    }

    /// What is held of a type.
    pub fn versions(&self, of: ResourceType) -> HashMap<String, String> {
        self.0.get(&of).cloned().unwrap_or_default()
    }

    /// How many resources of a type are held.
    pub fn count(&self, of: ResourceType) -> usize {
        self.0.get(&of).map_or(0, HashMap::len)
    }
}
