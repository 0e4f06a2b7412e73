//! What the sidecar's containers may use of the node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::annotations::{CPU_LIMIT, CPU_REQUEST, MEMORY_LIMIT, MEMORY_REQUEST, Wishes};
use crate::{Cause, Settings, quantity};

/// The settings', with what the pod wishes in place of theirs.
pub(crate) fn of_both(wishes: &Wishes, settings: &Settings) -> Result<Option<ResourceRequirements>, Cause> {
    let wished = &wishes.resources;
    let mut resources = settings.resources.clone().unwrap_or_default();
    set(&mut resources.requests, "cpu", wished.cpu_request.as_ref());
    set(&mut resources.limits, "cpu", wished.cpu_limit.as_ref());
    set(&mut resources.requests, "memory", wished.memory_request.as_ref());
    set(&mut resources.limits, "memory", wished.memory_limit.as_ref());
    let pairs = [
        ("cpu", CPU_REQUEST, &wished.cpu_request, CPU_LIMIT, &wished.cpu_limit),
        ("memory", MEMORY_REQUEST, &wished.memory_request, MEMORY_LIMIT, &wished.memory_limit),
    ];
    for (what, request, wished_request, limit, wished_limit) in pairs {
        // The one that the pod says is the one to be mended.
        let (name, value) = match (wished_limit, wished_request) {
            (Some(value), _) => (limit, value),
            (None, Some(value)) => (request, value),
            (None, None) => continue,
        };
        let of = |list: &Option<BTreeMap<String, Quantity>>| list.as_ref()?.get(what).map(|it| it.0.clone());
        let (Some(asked), Some(most)) = (of(&resources.requests), of(&resources.limits)) else { continue };
        if quantity::amount(&asked) > quantity::amount(&most) {
            return Err(Cause::Annotation {
                name,
                owner: "pod",
                value: value.clone(),
                right: format!(
                    "the proxy would request {asked} and be limited to {most}: set {request} and {limit} so \
                     that the request is not above the limit"
                ),
            });
        }
    }
    Ok((resources != ResourceRequirements::default()).then_some(resources))
}

fn set(list: &mut Option<BTreeMap<String, Quantity>>, what: &str, value: Option<&String>) {
    if let Some(value) = value {
        list.get_or_insert_default().insert(what.to_owned(), Quantity(value.clone()));
    }
}
