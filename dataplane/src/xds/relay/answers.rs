//! Answers to the control plane: which of its responses wait for Envoy, and what each is told in the end.
//!
//! Invariant: every response gets exactly one answer, with its nonce.

use std::collections::{BTreeMap, BTreeSet};

use ursa_envoy::ResourceType;
use ursa_envoy::wire::{DeltaDiscoveryRequest, WireStatus};

use super::targets::Targets;

/// `INVALID_ARGUMENT` of gRPC: what Envoy itself puts in a NACK's details.
const INVALID_ARGUMENT: i32 = 3;

/// A response of the control plane that has no answer yet.
#[derive(Debug)]
pub(super) struct Pending {
    nonce: String,
    /// Name → version.
    adds: BTreeMap<String, String>,
    removes: BTreeSet<String>,
    /// What the agent refused by itself.
    refused: Vec<String>,
}

impl Pending {
    pub(super) fn new(nonce: String) -> Self {
        Self { nonce, adds: BTreeMap::new(), removes: BTreeSet::new(), refused: Vec::new() }
    }

    pub(super) fn add(&mut self, name: String, version: String) {
        self.adds.insert(name, version);
    }

    pub(super) fn remove(&mut self, name: String) {
        self.removes.insert(name);
    }

    pub(super) fn refuse(&mut self, name: &str, reason: &str) {
        self.refused.push(line(name, reason));
    }

    /// Whether its answer says what becomes of this version.
    pub(super) fn waits_for(&self, name: &str, version: &str) -> bool {
        self.adds.get(name).is_some_and(|added| added == version)
    }

    /// The answer, once all of it is decided. A resource that a later response replaced is decided there.
    pub(super) fn answer(
        &self,
        resource_type: ResourceType,
        targets: &Targets,
    ) -> Option<DeltaDiscoveryRequest> {
        let mut refused = self.refused.clone();
        for (name, version) in &self.adds {
            let version_in = |entry: Option<&std::sync::Arc<crate::xds::cache::Entry>>| {
                entry.is_some_and(|entry| entry.version == *version)
            };
            if !version_in(targets.wanted.get(resource_type, name)) {
                continue;
            }
            if let Some(reason) = targets.refusals.reason(resource_type, name, version) {
                refused.push(line(name, reason));
            } else if !version_in(targets.good.get(resource_type, name)) {
                return None;
            }
        }
        for name in &self.removes {
            let waits = targets.wanted.get(resource_type, name).is_none()
                && targets.good.get(resource_type, name).is_some()
                && targets.get(resource_type, name).is_none();
            if waits {
                return None;
            }
        }
        let type_url = resource_type.type_url();
        Some(if refused.is_empty() {
            ack(type_url, &self.nonce)
        } else {
            nack(type_url, &self.nonce, refused.join("\n"))
        })
    }
}

/// One refused resource in a NACK's message: `NAME: REASON`, a line each.
fn line(name: &str, reason: &str) -> String {
    format!("{name}: {}", reason.trim().replace('\n', " "))
}

fn ack(type_url: &str, nonce: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: type_url.to_owned(),
        response_nonce: nonce.to_owned(),
        ..Default::default()
    }
}

pub(super) fn nack(type_url: &str, nonce: &str, message: String) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        error_detail: Some(WireStatus { code: INVALID_ARGUMENT, message, ..Default::default() }),
        ..ack(type_url, nonce)
    }
}
