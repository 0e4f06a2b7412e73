//! Resources with their versions, built once and shared by all proxies that get them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use serde::Serialize;
use ursa_model::{Destination, Outbound, Sweep, fingerprint};

use crate::TRANSLATOR_REVISION;
use crate::parts::Parts;
use crate::wire::{Any, type_url};

/// The types of resources, in the order in which additions are sent: what is referred to comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// CDS.
    Cluster,
    /// EDS.
    Endpoint,
    /// SDS.
    Secret,
    /// LDS.
    Listener,
    /// RDS.
    Route,
}

impl ResourceType {
    /// Every type, in the order in which additions are sent.
    pub const ALL: [Self; 5] = [Self::Cluster, Self::Endpoint, Self::Secret, Self::Listener, Self::Route];

    /// The type URL on the wire.
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => type_url::CLUSTER,
            Self::Endpoint => type_url::ENDPOINT,
            Self::Secret => type_url::SECRET,
            Self::Listener => type_url::LISTENER,
            Self::Route => type_url::ROUTE,
        }
    }

    /// From the type URL on the wire.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.type_url() == url)
    }
}

/// Names a resource of a proxy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey {
    /// The type.
    pub resource_type: ResourceType,
    /// The name, unique in the type.
    pub name: String,
}

/// An Envoy resource.
#[derive(Debug)]
pub struct Resource {
    /// What it is called.
    pub key: ResourceKey,
    /// A fingerprint of what it was built from.
    pub version: String,
    /// The encoded message.
    pub body: Any,
}

/// Finds resources that were built before, so that each is built and encoded once.
///
/// It holds them weakly: a resource lives as long as a proxy's set refers to it.
#[derive(Debug, Default)]
pub struct Interner {
    known: HashMap<(ResourceKey, String), Weak<Resource>>,
    pub(crate) outbounds: Parts<Outbound>,
    pub(crate) destinations: Parts<Destination>,
    built: u64,
    sweep: Sweep,
}

impl Interner {
    /// The resource of this name for this part of the model; `build` runs only if no equal one is alive.
    pub(crate) fn intern<S: Serialize>(
        &mut self,
        resource_type: ResourceType,
        name: String,
        slice: &S,
        build: impl FnOnce(&str) -> Any,
    ) -> Arc<Resource> {
        let version = fingerprint(&(TRANSLATOR_REVISION, slice)).to_string();
        let id = (ResourceKey { resource_type, name }, version);
        if let Some(resource) = self.known.get(&id).and_then(Weak::upgrade) {
            return resource;
        }
        self.forget_dead();
        self.built += 1;
        let (key, version) = id.clone();
        let body = build(&key.name);
        let resource = Arc::new(Resource { key, version, body });
        self.known.insert(id, Arc::downgrade(&resource));
        resource
    }

    /// How many resources were built and encoded so far.
    pub fn built(&self) -> u64 {
        self.built
    }

    /// Forgets the dead in time.
    fn forget_dead(&mut self) {
        if self.sweep.is_due(self.known.len()) {
            self.known.retain(|_, weak| weak.strong_count() > 0);
            self.sweep.done(self.known.len());
        }
    }
}
