//! `Mesh`.

use std::collections::BTreeSet;
use std::time::Duration;

use ursa_crds::{CaType, MeshSpec};

use super::Problems;
use super::meta::label;

const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_hours(720);

pub(super) fn check(spec: &MeshSpec, problems: &mut Problems) {
    let Some(mtls) = &spec.mtls else { return };
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
