//! Writes the custom resource definitions as Kubernetes takes them.
//!
//! Invariant: equal types give equal bytes, whatever features other crates turn on.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;
use ursa_crds::{KINDS, Kind, KindInfo};

use crate::{generated, schema};

const HEADER: &str = "# Generated from the Rust types beside it by `make generate`; do not edit.\n";

/// `cargo xtask crds`.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let mut files = BTreeMap::new();
    // On Kubernetes its own Secrets hold what nobody may read back.
    for info in KINDS.iter().filter(|info| info.kind != Kind::Secret) {
        files.insert(format!("{}.yaml", info.singular), yaml(info)?);
    }
    generated::sync(&root.join("crds"), "yaml", &files, check)
}

fn yaml(info: &KindInfo) -> anyhow::Result<String> {
    let definition = definition(info)?;
    let text = serde_saphyr::to_string(&definition).with_context(|| format!("cannot write {}", info.name))?;
    Ok(format!("{HEADER}{}\n", text.trim_end()))
}

/// The definition with its schemas made structural and its keys in order.
fn definition(info: &KindInfo) -> anyhow::Result<Value> {
    let mut definition =
        serde_json::to_value((info.crd)()).with_context(|| format!("cannot encode {}", info.name))?;
    let versions = definition.pointer_mut("/spec/versions").and_then(Value::as_array_mut);
    for version in versions.with_context(|| format!("{} has no versions", info.name))? {
        let found = version.pointer_mut("/schema/openAPIV3Schema");
        let found = found.with_context(|| format!("{} has a version without a schema", info.name))?;
        schema::make_structural(found).with_context(|| format!("in the schema of {}", info.name))?;
    }
    Ok(generated::sorted(definition))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_gives_a_definition_that_reads_back_from_its_yaml() {
        for info in KINDS {
            let definition = definition(info).unwrap();
            let read: Value = serde_saphyr::from_str(&yaml(info).unwrap()).unwrap();
            assert_eq!(read, definition, "{}", info.name);
            assert_eq!(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["type"], "object");
        }
    }
}
