//! The settings of sidecars, as the operator wrote them last.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use ursa_inject::Settings;

use crate::files::{self, Content};
use crate::metrics::{File, Metrics};

/// The settings in force; `None` until good ones were read.
pub(crate) type InForce = watch::Receiver<Option<Arc<Settings>>>;

/// Reads the file, and again whenever it changes. What cannot be used leaves the last good settings in force.
pub(crate) fn follow(path: PathBuf, metrics: Arc<Metrics>, tasks: &mut JoinSet<()>) -> InForce {
    let (sender, receiver) = watch::channel(None);
    tasks.spawn(files::follow(vec![path], move |content| match read(content) {
        Ok(settings) => {
            metrics.loaded(File::Settings, true);
            tracing::info!(image = settings.image, mode = ?settings.mode, "sidecars get new settings");
            sender.send_replace(Some(Arc::new(settings)));
        }
        Err(error) => {
            metrics.loaded(File::Settings, false);
            let in_force = sender.borrow().is_some();
            tracing::error!(error = format!("{error:#}"), in_force, "cannot use the settings");
        }
    }));
    receiver
}

fn read(content: &Content) -> anyhow::Result<Settings> {
    let content = content.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
    let text = str::from_utf8(&content.concat())?.to_owned();
    // By way of JSON, as types of Kubernetes are read from that.
    let value: Value = serde_saphyr::from_str(&text).context("the file is no YAML")?;
    let settings: Settings = serde_json::from_value(value)?;
    settings.check()?;
    Ok(settings)
}
