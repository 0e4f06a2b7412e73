//! Resources by type and name, and their form on disk.
//!
//! Invariant: what [`Cache::decode`] returns is exactly what [`Cache::encode`] was given, for the same proxy, or an
//! error; there is no half-read cache.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use prost::Message;
use ursa_envoy::ResourceType;
use ursa_envoy::wire::{Any, WireResource};

/// A resource as the control plane sent it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The control plane's version of it; opaque.
    pub version: String,
    /// The message.
    pub body: Any,
}

/// Resources of one type by name.
pub type Table = BTreeMap<String, Arc<Entry>>;

/// Resources by type and name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cache {
    tables: BTreeMap<ResourceType, Table>,
}

impl Cache {
    /// The resource of this name.
    pub fn get(&self, resource_type: ResourceType, name: &str) -> Option<&Arc<Entry>> {
        self.tables.get(&resource_type)?.get(name)
    }

    /// All of a type, ordered by name.
    pub fn iter(&self, resource_type: ResourceType) -> impl Iterator<Item = (&String, &Arc<Entry>)> {
        self.tables.get(&resource_type).into_iter().flatten()
    }

    /// Puts a resource in; false if it was there in this version.
    pub fn insert(&mut self, resource_type: ResourceType, name: &str, entry: Arc<Entry>) -> bool {
        let table = self.tables.entry(resource_type).or_default();
        if table.get(name).is_some_and(|known| known.version == entry.version) {
            return false;
        }
        table.insert(name.to_owned(), entry);
        true
    }

    /// Takes a resource out; false if there was none.
    pub fn remove(&mut self, resource_type: ResourceType, name: &str) -> bool {
        let Some(table) = self.tables.get_mut(&resource_type) else { return false };
        let removed = table.remove(name).is_some();
        if table.is_empty() {
            self.tables.remove(&resource_type);
        }
        removed
    }

    /// Names and versions of a type, as a new stream states what is held.
    pub fn versions(&self, resource_type: ResourceType) -> HashMap<String, String> {
        self.iter(resource_type).map(|(name, entry)| (name.clone(), entry.version.clone())).collect()
    }

    /// The bytes to keep for this proxy.
    pub fn encode(&self, proxy: &str) -> Vec<u8> {
        let resources = ResourceType::ALL
            .into_iter()
            .flat_map(|resource_type| self.iter(resource_type))
            .map(|(name, entry)| wire_resource(name, entry))
            .collect();
        Saved { format: FORMAT, proxy: proxy.to_owned(), resources }.encode_to_vec()
    }

    /// The cache that was kept for this proxy.
    pub fn decode(bytes: &[u8], proxy: &str) -> Result<Self, DecodeError> {
        let saved = Saved::decode(bytes)?;
        if saved.format != FORMAT {
            return Err(DecodeError::Format(saved.format));
        }
        if saved.proxy != proxy {
            return Err(DecodeError::OtherProxy(saved.proxy));
        }
        let mut cache = Self::default();
        for WireResource { name, version, resource, .. } in saved.resources {
            let body = resource.ok_or_else(|| DecodeError::Resource(name.clone()))?;
            let resource_type = ResourceType::from_type_url(&body.type_url)
                .ok_or_else(|| DecodeError::Resource(name.clone()))?;
            cache.insert(resource_type, &name, Arc::new(Entry { version, body }));
        }
        Ok(cache)
    }
}

/// A resource as delta xDS carries it.
pub fn wire_resource(name: &str, entry: &Entry) -> WireResource {
    WireResource {
        name: name.to_owned(),
        version: entry.version.clone(),
        resource: Some(entry.body.clone()),
        ..Default::default()
    }
}

/// Why a kept cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not what this program writes.
    #[error("it is damaged: {0}")]
    Damaged(#[from] prost::DecodeError),
    /// Written by another release.
    #[error("it has format {0}, this release reads {FORMAT}")]
    Format(u32),
    /// The data folder was used for another proxy before.
    #[error("it belongs to proxy {0:?}")]
    OtherProxy(String),
    /// A resource without a body or of an unknown type.
    #[error("resource {0:?} has no body of a known type")]
    Resource(String),
}

/// Raised when the meaning of [`Saved`] changes.
const FORMAT: u32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Saved {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(string, tag = "2")]
    proxy: String,
    #[prost(message, repeated, tag = "3")]
    resources: Vec<WireResource>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(resource_type: ResourceType, version: &str) -> Arc<Entry> {
        let body = Any { type_url: resource_type.type_url().into(), value: version.as_bytes().to_vec() };
        Arc::new(Entry { version: version.into(), body })
    }

    fn filled() -> Cache {
        let mut cache = Cache::default();
        for resource_type in ResourceType::ALL {
            cache.insert(resource_type, "a", entry(resource_type, "1"));
            cache.insert(resource_type, "b", entry(resource_type, "2"));
        }
        cache
    }

    #[test]
    fn a_cache_reads_back_as_it_was_written() {
        assert_eq!(Cache::decode(&filled().encode("default/web"), "default/web").unwrap(), filled());
    }

    #[test]
    fn the_cache_of_another_proxy_is_refused() {
        let bytes = filled().encode("default/web");
        assert!(matches!(Cache::decode(&bytes, "default/api"), Err(DecodeError::OtherProxy(_))));
    }

    #[test]
    fn a_cut_file_is_refused() {
        let bytes = filled().encode("default/web");
        assert!(matches!(
            Cache::decode(&bytes[..bytes.len() - 1], "default/web"),
            Err(DecodeError::Damaged(_))
        ));
        assert!(matches!(Cache::decode(&[], "default/web"), Err(DecodeError::Format(0))));
    }

    #[test]
    fn the_same_version_again_is_no_change() {
        let mut cache = filled();
        assert!(!cache.insert(ResourceType::Cluster, "a", entry(ResourceType::Cluster, "1")));
        assert!(cache.insert(ResourceType::Cluster, "a", entry(ResourceType::Cluster, "3")));
        assert_eq!(cache.versions(ResourceType::Cluster)["a"], "3");
    }
}
