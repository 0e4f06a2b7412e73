//! How much of a proxy's configuration each part of its model makes.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use ursa_model::{EndpointSet, ProxyModel};

use crate::resource::{Interner, Resource, ResourceType};
use crate::translate::{Resources, endpoint_resource, translate};

/// Resources, and the bytes of their encoded bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// How many there are.
    pub resources: usize,
    /// As they are sent, without names and versions.
    pub bytes: usize,
}

impl AddAssign for Weight {
    fn add_assign(&mut self, other: Self) {
        self.resources += other.resources;
        self.bytes += other.bytes;
    }
}

impl AddAssign<&Resource> for Weight {
    fn add_assign(&mut self, resource: &Resource) {
        *self += Self { resources: 1, bytes: resource.body.value.len() };
    }
}

/// What each part of a model makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    /// By type, all of them.
    pub types: BTreeMap<ResourceType, Weight>,
    /// Of each outbound, in their order.
    pub outbounds: Vec<Weight>,
    /// Of each destination with its endpoints, in their order.
    pub destinations: Vec<Weight>,
    /// Of what is left: inbounds, capture.
    pub others: Weight,
}

/// Weighs a model that calls others; `endpoints` are those of its destinations, in their order.
pub fn weigh(model: &ProxyModel, endpoints: &[EndpointSet]) -> Weights {
    let interner = &mut Interner::default();
    let captured = model.capture.is_some();
    let mut weights = Weights::default();
    // All of it lives until the end, so that nothing is built twice.
    let all = translate(model, interner);
    for outbound in &model.outbounds {
        let mut part = Resources::by(interner);
        part.outbound(outbound, captured);
        weights.outbounds.push(sum(&part));
    }
    let mut located = Vec::new();
    for (destination, endpoints) in model.destinations.iter().zip(endpoints) {
        located.push(endpoint_resource(&destination.id.name(), endpoints, interner));
        let mut part = Resources::by(interner);
        part.destination(destination);
        part.built.extend(located.last().cloned());
        weights.destinations.push(sum(&part));
    }
    let mut rest = Resources::by(interner);
    for inbound in &model.inbounds {
        rest.inbound(inbound, captured);
    }
    if let Some(capture) = &model.capture {
        rest.capture(capture);
    }
    weights.others = sum(&rest);
    for resource in all.into_values().chain(located) {
        *weights.types.entry(resource.key.resource_type).or_default() += &*resource;
    }
    weights
}

fn sum(part: &Resources<'_>) -> Weight {
    let mut weight = Weight::default();
    for resource in &part.built {
        weight += &**resource;
    }
    weight
}
