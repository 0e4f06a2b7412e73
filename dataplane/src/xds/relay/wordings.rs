//! In which words a secret is sent.
//!
//! Envoy acknowledges without effect what it was sent last, also if it refused that, so it would seem to run it.
//! Invariant: a secret that was in a refused response comes in other words the next time, so that Envoy tries it again.

use std::collections::BTreeSet;

use ursa_envoy::wire::DeltaDiscoveryResponse;
use ursa_envoy::{ResourceType, reworded};

/// For one Envoy, over all its streams.
#[derive(Debug, Default)]
pub(super) struct Wordings {
    /// Secrets that are now sent in other words than the control plane's.
    others: BTreeSet<String>,
}

impl Wordings {
    /// Envoy refused a response with these secrets.
    pub(super) fn change<'a>(&mut self, names: impl Iterator<Item = &'a String>) {
        for name in names {
            if !self.others.remove(name) {
                self.others.insert(name.clone());
            }
        }
    }

    /// Puts what is to be sent in its words.
    pub(super) fn apply(&self, response: &mut DeltaDiscoveryResponse) {
        if response.type_url != ResourceType::Secret.type_url() {
            return;
        }
        for resource in response.resources.iter_mut().filter(|resource| self.others.contains(&resource.name))
        {
            // What cannot be reworded is no secret, and refused before Envoy remembers it.
            if let Some(other) = resource.resource.as_ref().and_then(reworded) {
                resource.resource = Some(other);
            }
        }
    }
}
