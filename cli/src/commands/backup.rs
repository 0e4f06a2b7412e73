//! `backup` and `restore`: a global control plane with its keys, in one file for its owner only.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::args::{self, Common};
use crate::environment::Environment;
use crate::failure::plain;
use crate::files::write_private;
use crate::problem::Refusal;
use crate::{commands, output};

pub(crate) async fn take(
    common: &Common,
    environment: &Environment,
    backup: &args::Backup,
) -> anyhow::Result<()> {
    let document = commands::connect(common, environment)?.get(&["backup"]).await?;
    let objects = document["content"]["objects"].as_array();
    let count = objects
        .context("the control plane answered without a backup: is it of a version that makes them?")?
        .len();
    let (file, text) = (&backup.file, format!("{document}\n"));
    write_private(file, text.as_bytes()).with_context(|| format!("cannot write {}", file.display()))?;
    let summary = json!({
        "file": file, "objects": count, "createdAt": document["createdAt"], "version": document["version"],
    });
    output::print(&match output::structured(common.output, &summary)? {
        Some(text) => text,
        None => format!(
            "{count} resources and the keys are in {}: who reads it can be this control plane\n",
            file.display()
        ),
    })
}

pub(crate) async fn restore(
    common: &Common,
    environment: &Environment,
    restore: &args::Restore,
) -> anyhow::Result<()> {
    let file = restore.file.display();
    let text = std::fs::read(&restore.file).with_context(|| format!("cannot read {file}"))?;
    let document: Value =
        serde_json::from_slice(&text).with_context(|| format!("{file} is no backup, or not all of one"))?;
    let answer = commands::connect(common, environment)?.post_patiently(&["restore"], &document).await;
    let answer = answer.map_err(|error| match error.downcast_ref::<Refusal>() {
        Some(_) => error,
        None => error.context(
            "how far the restoring came is not known; do it again, which is harmless (if your token is refused then, it was done: tokens from before the loss count, and not that of the new control plane)",
        ),
    })?;
    output::print(&match output::structured(common.output, &answer)? {
        Some(text) => text,
        None => summary(&answer),
    })
}

fn summary(answer: &Value) -> String {
    let text = |field: &str| plain(answer[field].as_str().unwrap_or_default());
    let zones: Vec<&str> =
        answer["zones"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let zones = if zones.is_empty() { "none".to_owned() } else { plain(&zones.join(", ")) };
    format!(
        "restored {} resources and the keys, as of {} (Ursa {})\nzones that come back by themselves: {zones}\n\
         tokens from before count again, and those of the new control plane no longer: `ursa-cp admin-token` prints the administrator's\n",
        answer["objects"],
        text("createdAt"),
        text("version"),
    )
}
