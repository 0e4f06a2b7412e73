//! `delete`: one resource by name, or all that files name, in the reverse of the order in which they are applied.

use ursa_crds::ObjectKey;

use crate::args::{self, Common};
use crate::documents::{self, Document};
use crate::environment::Environment;
use crate::failure::usage;
use crate::{commands, failure, output, resource};

pub(crate) async fn run(
    common: &Common,
    environment: &Environment,
    delete: &args::Delete,
) -> anyhow::Result<()> {
    let keys = keys(common, delete)?;
    let client = commands::connect(common, environment)?;
    let mut failures = Vec::new();
    for key in &keys {
        let name = resource::short(key);
        match client.delete(&resource::path(key)).await {
            Ok(()) => output::print(&format!("{name} deleted\n"))?,
            Err(error) if keys.len() == 1 => return Err(error),
            Err(error) => failures.push(format!("{name}: {error:#}")),
        }
    }
    failure::none_of(failures)
}

fn keys(common: &Common, delete: &args::Delete) -> anyhow::Result<Vec<ObjectKey>> {
    match (&delete.kind, &delete.name) {
        (Some(kind), Some(name)) => Ok(vec![resource::key(resource::kind(kind)?, common.mesh(), name)]),
        (None, None) => {
            // What was valid once may be deleted though it no longer is.
            let documents = documents::read(&delete.files, common.mesh.as_deref(), |_| Vec::new())?;
            Ok(documents.iter().rev().map(Document::key).collect())
        }
        _ => Err(usage("name a kind and a resource, or files by -f")),
    }
}
