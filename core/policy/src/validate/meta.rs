//! Metadata, as Kubernetes has it.
//! Source: <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/> and `…/labels/`.

use std::collections::BTreeMap;

use ursa_crds::{Kind, Object};
use ursa_model::SpiffeId;

use super::Problems;

const ANNOTATIONS_LIMIT: usize = 256 * 1024;

pub(super) fn check(object: &Object, problems: &mut Problems) {
    let meta = &object.meta;
    match object.kind() {
        // Part of host names and identities.
        Kind::Mesh => label(&meta.name, "metadata.name", problems),
        _ => subdomain(&meta.name, problems),
    }
    for (key, value) in &meta.labels {
        let field = format!("metadata.labels[{key}]");
        problems.require(is_qualified(key), &field, "the key must be a label key of Kubernetes");
        problems.require(
            is_label_value(value),
            &field,
            "the value must be a label value of Kubernetes: up to 63 of [A-Za-z0-9._-]",
        );
    }
    for key in meta.annotations.keys() {
        problems.require(
            is_qualified(key),
            format!("metadata.annotations[{key}]"),
            "the key must be an annotation key of Kubernetes",
        );
    }
    let size = |map: &BTreeMap<String, String>| map.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
    problems.require(
        size(&meta.annotations) <= ANNOTATIONS_LIMIT,
        "metadata.annotations",
        "together they may have 256 KiB",
    );
}

pub(super) fn label(name: &str, field: &str, problems: &mut Problems) {
    problems.require(
        SpiffeId::is_label(name),
        field,
        "must be a DNS label: 1 to 63 of [a-z0-9-], beginning and ending with a letter or digit",
    );
}

fn subdomain(name: &str, problems: &mut Problems) {
    let valid = (1..=253).contains(&name.len()) && name.split('.').all(SpiffeId::is_label);
    problems.require(
        valid,
        "metadata.name",
        "must be a DNS subdomain: 1 to 253 of [a-z0-9.-], each part between dots a DNS label of at most 63",
    );
}

/// A key with an optional DNS subdomain before a slash.
pub(super) fn is_qualified(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let prefix_valid = prefix
        .is_none_or(|prefix| (1..=253).contains(&prefix.len()) && prefix.split('.').all(SpiffeId::is_label));
    prefix_valid && !name.is_empty() && is_label_value(name)
}

fn is_label_value(value: &str) -> bool {
    let edge = |b: Option<u8>| b.is_none_or(|b| b.is_ascii_alphanumeric());
    value.len() <= 63
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && edge(value.bytes().next())
        && edge(value.bytes().last())
}
