//! `get`: shows resources.

use jiff::Timestamp;
use serde_json::Value;
use ursa_crds::{KINDS, Kind};

use crate::args::{self, Common};
use crate::environment::Environment;
use crate::failure::usage;
use crate::{columns, commands, failure, output, resource, table};

/// A global control plane has none.
const NO_DATAPLANES: &str = "A Dataplane is registered with the control plane of its zone; `ursactl inspect dataplanes` \
                             shows those of all zones.";

pub(crate) async fn run(common: &Common, environment: &Environment, get: &args::Get) -> anyhow::Result<()> {
    if get.kind.eq_ignore_ascii_case("all") {
        if get.name.is_some() {
            return Err(usage("get all takes no name"));
        }
        return all(common, environment).await;
    }
    let kind = resource::kind(&get.kind)?;
    let client = commands::connect(common, environment)?;
    let (found, whole) = if let Some(name) = &get.name {
        let object = client.get(&resource::path(&resource::key(kind, common.mesh(), name))).await?;
        (vec![object.clone()], object)
    } else {
        let found = client.list(&resource::list_path(kind, common.mesh())).await?;
        let whole = output::list(&found);
        (found, whole)
    };
    if let Some(text) = output::structured(common.output, &whole)? {
        return output::print(&text);
    }
    output::print(&table(kind, "", &found))?;
    if kind == Kind::Dataplane && found.is_empty() {
        output::note(NO_DATAPLANES);
    }
    Ok(())
}

/// Everything that can be listed is, whatever else fails.
async fn all(common: &Common, environment: &Environment) -> anyhow::Result<()> {
    let client = commands::connect(common, environment)?;
    let (mut everything, mut tables, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for info in KINDS {
        match client.list(&resource::list_path(info.kind, common.mesh())).await {
            Ok(found) => {
                if !found.is_empty() {
                    tables.push(table(info.kind, &format!("{}/", info.singular), &found));
                }
                everything.extend(found);
            }
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    let text = match output::structured(common.output, &output::list(&everything))? {
        Some(text) => text,
        None => tables.join("\n"),
    };
    output::print(&text)?;
    // A mesh that does not exist, or a token that is not taken, is so for every kind.
    failures.dedup();
    failure::none_of(failures)
}

fn table(kind: Kind, prefix: &str, found: &[Value]) -> String {
    let (titles, rows) = columns::rows(kind, prefix, found, Timestamp::now());
    table::render(&titles, &rows)
}
