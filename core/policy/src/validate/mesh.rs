//! `Mesh`.

use std::collections::BTreeSet;
use std::time::Duration;

use ursa_crds::{CaType, GrantedService, IdentityTag, Members, MeshSpec, Mtls, RevokedToken};
use ursa_model::SpiffeId;

use super::Problems;
use super::meta::{is_qualified, label};
use super::tags::is_ursas;

const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_hours(720);

pub(super) fn check(spec: &MeshSpec, problems: &mut Problems) {
    if let Some(mtls) = &spec.mtls {
        check_mtls(mtls, problems);
    }
    if let Some(Members { namespaces, zones }) = &spec.members {
        check_places(namespaces, zones, "spec.members", problems);
    }
    check_services(&spec.services, problems);
    check_identity_tags(&spec.identity_tags, problems);
    check_revoked_tokens(spec.revoked_tokens.as_deref().unwrap_or_default(), problems);
}

fn check_revoked_tokens(tokens: &[RevokedToken], problems: &mut Problems) {
    problems.at_most(1000, tokens.len(), "spec.revokedTokens");
    let mut ids = BTreeSet::new();
    for (position, RevokedToken { id, reason, revoked_at: _, expires_at: _ }) in tokens.iter().enumerate() {
        let field = format!("spec.revokedTokens[{position}]");
        problems.require(
            id.len() <= 64 && SpiffeId::is_segment(id),
            format!("{field}.id"),
            "must be the id of a token: 1 to 64 of [A-Za-z0-9._-]",
        );
        problems.require(ids.insert(id), format!("{field}.id"), "another entry has this id");
        problems.require(
            reason.as_ref().is_none_or(|reason| (1..=256).contains(&reason.chars().count())),
            format!("{field}.reason"),
            "must be 1 to 256 characters, or left out",
        );
    }
}

fn check_services(services: &[GrantedService], problems: &mut Problems) {
    problems.at_most(1000, services.len(), "spec.services");
    let mut names = BTreeSet::new();
    for (position, GrantedService { name, namespaces, zones }) in services.iter().enumerate() {
        let field = format!("spec.services[{position}]");
        problems.require(
            SpiffeId::is_segment(name),
            format!("{field}.name"),
            "must be the name of a service: 1 to 253 of [A-Za-z0-9._-]",
        );
        problems.require(names.insert(name), format!("{field}.name"), "another entry has this name");
        check_places(namespaces, zones, &field, problems);
    }
}

fn check_identity_tags(tags: &[IdentityTag], problems: &mut Problems) {
    problems.at_most(32, tags.len(), "spec.identityTags");
    let mut keys = BTreeSet::new();
    for (position, IdentityTag { key, namespaces, zones }) in tags.iter().enumerate() {
        let field = format!("spec.identityTags[{position}]");
        problems.require(
            is_qualified(key),
            format!("{field}.key"),
            format!("the tag key {key:?} must be like a label key of Kubernetes"),
        );
        problems.require(
            !is_ursas(key),
            format!("{field}.key"),
            "service, zone and namespace are part of each identity, and other tags of ursamesh.io never are",
        );
        problems.require(keys.insert(key), format!("{field}.key"), "another entry has this key");
        check_places(namespaces, zones, &field, problems);
    }
}

/// Namespaces and zones to which something is granted.
fn check_places(namespaces: &[String], zones: &[String], field: &str, problems: &mut Problems) {
    for (names, what) in [(namespaces, "namespaces"), (zones, "zones")] {
        let field = format!("{field}.{what}");
        problems.at_most(1000, names.len(), &field);
        let mut seen = BTreeSet::new();
        for (position, name) in names.iter().enumerate() {
            label(name, &format!("{field}[{position}]"), problems);
            problems.require(
                seen.insert(name),
                format!("{field}[{position}]"),
                format!("{name} is there twice"),
            );
        }
    }
}

fn check_mtls(mtls: &Mtls, problems: &mut Problems) {
    if let Some(enabled) = &mtls.enabled_backend {
        let known = mtls.backends.iter().any(|backend| backend.name == *enabled);
        problems.require(
            known,
            "spec.mtls.enabledBackend",
            format!("there is no backend {enabled:?} in spec.mtls.backends"),
        );
    }
    problems.at_most(8, mtls.backends.len(), "spec.mtls.backends");
    let mut names = BTreeSet::new();
    for (position, backend) in mtls.backends.iter().enumerate() {
        let field = format!("spec.mtls.backends[{position}]");
        label(&backend.name, &format!("{field}.name"), problems);
        problems.require(
            names.insert(&backend.name),
            format!("{field}.name"),
            "another backend has this name",
        );
        let provided = backend.ca_type == CaType::Provided;
        problems.require(
            provided == backend.conf.is_some(),
            format!("{field}.conf"),
            if provided {
                "is required: the secrets of a Provided authority, {cert: {secret: NAME}, key: {secret: NAME}}"
            } else {
                "a Builtin authority has none: leave it out, or say type: Provided"
            },
        );
        let expiration = backend.dp_cert.rotation.expiration;
        problems.require(
            (SHORTEST..=LONGEST).contains(&expiration.get()),
            format!("{field}.dpCert.rotation.expiration"),
            format!("{expiration} is not between 5s and 720h"),
        );
    }
}
