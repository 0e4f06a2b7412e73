//! `config control-planes`: which control planes there are, and the current one.

use std::path::{Path, absolute};

use anyhow::{Context as _, bail};
use serde_json::json;

use crate::access::api_url;
use crate::args::{Common, ControlPlanes};
use crate::config::{self, Config, ControlPlane};
use crate::environment::Environment;
use crate::failure::usage;
use crate::{output, table};

pub(crate) fn run(common: &Common, environment: &Environment, command: &ControlPlanes) -> anyhow::Result<()> {
    let path = config::path(common, environment)?;
    let mut config = Config::load(&path)?;
    let said = match command {
        ControlPlanes::List => return list(common, &config),
        ControlPlanes::Add { name, overwrite } => {
            let added = new(common, name)?;
            add(&mut config, added, *overwrite)?;
            format!("{name} added; it is the current control plane\n")
        }
        ControlPlanes::Remove { name } => {
            must_exist(&config, name)?;
            config.control_planes.retain(|known| known.name != *name);
            config.current.take_if(|current| current == name);
            match &config.current {
                Some(current) => format!("{name} removed; {current} is the current control plane\n"),
                None => format!("{name} removed; there is no current control plane\n"),
            }
        }
        ControlPlanes::Switch { name } => {
            must_exist(&config, name)?;
            config.current = Some(name.clone());
            format!("{name} is the current control plane\n")
        }
    };
    config.save(&path)?;
    output::print(&said)
}

/// By the flags alone: files that the environment names may be for another control plane.
fn new(common: &Common, name: &str) -> anyhow::Result<ControlPlane> {
    if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(usage(format!("{name:?} is no name for a control plane: it must be one word")));
    }
    let url = common.api.as_deref().ok_or_else(|| usage("--api is needed: the URL of its REST API"))?;
    let token_file = common
        .token_file
        .as_deref()
        .ok_or_else(|| usage("--token-file is needed: the file with the user's token"))?;
    let found = |path: &Path| absolute(path).with_context(|| format!("{} has no place", path.display()));
    Ok(ControlPlane {
        name: name.to_owned(),
        url: api_url(url)?.to_string(),
        ca_file: common.ca_file.as_deref().map(found).transpose()?,
        token_file: found(token_file)?,
    })
}

fn add(config: &mut Config, added: ControlPlane, overwrite: bool) -> anyhow::Result<()> {
    if config.find(&added.name).is_some() && !overwrite {
        bail!("there is a control plane {} already: --overwrite replaces it", added.name);
    }
    config.current = Some(added.name.clone());
    config.control_planes.retain(|known| known.name != added.name);
    config.control_planes.push(added);
    config.control_planes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(())
}

fn must_exist(config: &Config, name: &str) -> anyhow::Result<()> {
    if config.find(name).is_some() {
        return Ok(());
    }
    let names: Vec<&str> = config.control_planes.iter().map(|known| known.name.as_str()).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    bail!("no control plane {name:?} is known; those that are: {names}")
}

fn list(common: &Common, config: &Config) -> anyhow::Result<()> {
    if let Some(text) = output::structured(common.output, &json!(config))? {
        return output::print(&text);
    }
    let file = |path: Option<&Path>| path.map(|path| path.display().to_string()).unwrap_or_default();
    let row = |known: &ControlPlane| {
        let current = if config.current.as_ref() == Some(&known.name) { "*" } else { "" };
        vec![
            known.name.clone(),
            current.to_owned(),
            known.url.clone(),
            file(Some(&known.token_file)),
            file(known.ca_file.as_deref()),
        ]
    };
    let rows: Vec<Vec<String>> = config.control_planes.iter().map(row).collect();
    output::print(&table::render(&["NAME", "CURRENT", "URL", "TOKEN-FILE", "CA-FILE"], &rows))
}
