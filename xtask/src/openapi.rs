//! Writes the description of the REST API.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;

use crate::generated;

/// `cargo xtask openapi`.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let text = serde_json::to_string_pretty(&generated::sorted(ursa_api::openapi_document()))? + "\n";
    generated::sync(&root.join("docs"), "json", &BTreeMap::from([("openapi.json".to_owned(), text)]), check)
}
