//! Writes the custom resource definitions as Kubernetes takes them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use ursa_crds::Definition;

use crate::generated;

const HEADER: &str = "# Generated from the Rust types beside it by `make generate`; do not edit.\n";

/// `cargo xtask crds`.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let mut files = BTreeMap::new();
    for definition in ursa_crds::definitions()? {
        files.insert(format!("{}.yaml", definition.singular), yaml(&definition)?);
    }
    generated::sync(&root.join("crds"), "yaml", &files, check)
}

fn yaml(definition: &Definition) -> anyhow::Result<String> {
    let text = serde_saphyr::to_string(&definition.value)
        .with_context(|| format!("cannot write {}", definition.singular))?;
    Ok(format!("{HEADER}{}\n", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_definition_reads_back_from_its_yaml() {
        for definition in ursa_crds::definitions().unwrap() {
            let read: Value = serde_saphyr::from_str(&yaml(&definition).unwrap()).unwrap();
            assert_eq!(read, definition.value, "{}", definition.singular);
        }
    }
}
