//! `apply`: makes the control plane's resources what files say. Invariant: nothing is sent unless every document is
//! valid.

use serde_json::Value;

use crate::args::{self, Common, Output};
use crate::client::Client;
use crate::documents::{self, Document};
use crate::environment::Environment;
use crate::{commands, failure, output, resource};

pub(crate) async fn run(
    common: &Common,
    environment: &Environment,
    apply: &args::Apply,
) -> anyhow::Result<()> {
    let documents = documents::read(&apply.files, common.mesh.as_deref(), ursa_policy::validate)?;
    let client = if apply.dry_run { None } else { Some(commands::connect(common, environment)?) };
    let mut failures = Vec::new();
    let mut applied = Vec::new();
    for document in &documents {
        let name = resource::short(&document.key());
        let done = match &client {
            Some(client) => put(client, document).await,
            None => Ok(("valid", document.object.to_value())),
        };
        match done {
            Ok((what, object)) => {
                if common.output == Output::Table {
                    output::print(&format!("{name} {what}\n"))?;
                }
                applied.push(object);
            }
            Err(error) => failures.push(format!("{name} ({}): {error:#}", document.place)),
        }
    }
    if let Some(text) = output::structured(common.output, &output::list(&applied))? {
        output::print(&text)?;
    }
    failure::none_of(failures)
}

/// Writes an object: what that did, and what the object is now.
async fn put(client: &Client, document: &Document) -> anyhow::Result<(&'static str, Value)> {
    let key = document.key();
    let path = resource::path(&key);
    let before = client.find(&path).await?;
    let (created, now) = client.put(&path, &document.value).await?;
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    let what = match before {
        _ if created => "created",
        Some(before) if version(&before) == version(&now) => "unchanged",
        _ => "updated",
    };
    Ok((what, now))
}
