//! `version`: of this binary, and of the control plane if one is configured.

use serde_json::{Value, json};

use crate::access::Access;
use crate::args::{self, Common};
use crate::client::Client;
use crate::environment::Environment;
use crate::failure::plain;
use crate::output;

pub(crate) async fn run(
    common: &Common,
    environment: &Environment,
    version: &args::Version,
) -> anyhow::Result<()> {
    let server = if version.client { Ok(None) } else { control_plane(common, environment).await };
    let mut value = json!({"ursactl": {"version": env!("CARGO_PKG_VERSION")}});
    if let Ok(Some(server)) = &server {
        value["controlPlane"] = server.clone();
    }
    let text = match output::structured(common.output, &value)? {
        Some(text) => text,
        None => lines(&value),
    };
    output::print(&text)?;
    server.map(drop)
}

async fn control_plane(common: &Common, environment: &Environment) -> anyhow::Result<Option<Value>> {
    match Access::configured(common, environment)? {
        Some(access) => Client::new(&access)?.get(&[]).await.map(Some),
        None => Ok(None),
    }
}

fn lines(value: &Value) -> String {
    let text = |value: &Value| plain(value.as_str().unwrap_or_default());
    let own = format!("ursactl {}\n", text(&value["ursactl"]["version"]));
    let Some(server) = value.get("controlPlane") else { return own };
    let zone = match text(&server["zone"]) {
        zone if zone.is_empty() => zone,
        zone => format!(", zone {zone}"),
    };
    let [version, mode, instance] = ["version", "mode", "instance"].map(|field| text(&server[field]));
    format!("{own}control plane {version} ({mode}{zone}, instance {instance})\n")
}
