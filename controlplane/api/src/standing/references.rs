//! The condition `ResolvedRefs`: whether there is what a resource names.
//!
//! What is named and not there never lets anybody in and never gets traffic; here it is said.

use std::collections::BTreeSet;

use ursa_crds::{Kind, MeshSpec, Object, ObjectKey, Spec, Tags, TrafficRouteSpec};
use ursa_policy::has_in_zone;
use ursa_store::Store;

use super::Verdict;

pub(super) fn resolved(store: &Store, mesh: &str, object: &Object) -> Verdict {
    let (reason, problems) = match &object.spec {
        Spec::TrafficPermission(_) => ("TagNotDeclared", undeclared(store, object)),
        Spec::TrafficRoute(spec) => ("NoSuchInstances", nobody(store, mesh, spec)),
        Spec::Mesh(spec) => ("SecretNotFound", secrets(store, &object.meta.name, spec)),
        _ => ("ResolvedRefs", Vec::new()),
    };
    if problems.is_empty() {
        return Verdict {
            status: "True",
            reason: "ResolvedRefs".into(),
            message: "all that it names is there".into(),
        };
    }
    Verdict { status: "False", reason: reason.into(), message: problems.join("; ") }
}

/// Tags in sources that the mesh does not declare any more.
fn undeclared(store: &Store, object: &Object) -> Vec<String> {
    let alone: BTreeSet<String> = ursa_policy::validate(object).iter().map(ToString::to_string).collect();
    let among = ursa_policy::validate_among(object, |key| store.get(key));
    among.iter().map(ToString::to_string).filter(|problem| !alone.contains(problem)).collect()
}

/// Secrets of certificate authorities that are missing.
fn secrets(store: &Store, mesh: &str, spec: &MeshSpec) -> Vec<String> {
    let backends = spec.mtls.iter().flat_map(|mtls| mtls.backends.iter().enumerate());
    let named = backends.flat_map(|(position, backend)| {
        let conf = backend.conf.iter();
        conf.flat_map(move |conf| [("cert", &conf.cert.secret), ("key", &conf.key.secret)])
            .map(move |(part, secret)| (position, part, secret))
    });
    let missing = named.filter(|(_, _, secret)| {
        let key = ObjectKey::in_mesh(Kind::Secret, mesh, secret);
        !secret.is_empty() && store.get(&key).is_none()
    });
    missing
        .map(|(position, part, secret)| {
            format!("spec.mtls.backends[{position}].conf.{part}.secret: there is no secret {secret}")
        })
        .collect()
}

/// Parts of a split that no zone has anybody for.
fn nobody(store: &Store, mesh: &str, spec: &TrafficRouteSpec) -> Vec<String> {
    let offers = store.list_in_mesh(Kind::MeshZone, mesh);
    let offered = offers.iter().filter_map(|offer| match &offer.spec {
        Spec::MeshZone(spec) => Some((&offer.meta.name, &spec.services)),
        _ => None,
    });
    let offered: Vec<(&String, &Tags)> = offered
        .flat_map(|(zone, services)| services.iter().map(move |service| (zone, &service.tags)))
        .collect();
    let parts = spec.conf.split.iter().enumerate().filter(|(_, part)| part.weight > 0);
    let missing = parts
        .filter(|(_, part)| !offered.iter().any(|(zone, tags)| has_in_zone(&part.destination, zone, tags)));
    missing
        .map(|(position, part)| {
            let tags: Vec<String> =
                part.destination.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!(
                "spec.conf.split[{position}].destination: no workload of the mesh has {}",
                tags.join(", ")
            )
        })
        .collect()
}
