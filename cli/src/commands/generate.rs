//! `generate`: tokens, made by the control plane and printed alone, so that they can be redirected into a file.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::args::{Common, Generate};
use crate::environment::Environment;
use crate::{commands, output};

pub(crate) async fn run(
    common: &Common,
    environment: &Environment,
    generate: &Generate,
) -> anyhow::Result<()> {
    let (sort, request) = request(generate, common.mesh())?;
    let client = commands::connect(common, environment)?;
    let answer = client.post(&["tokens", sort], &request).await?;
    if let Some(text) = output::structured(common.output, &answer)? {
        return output::print(&text);
    }
    let token = answer["token"].as_str().context("the control plane answered without a token")?;
    output::print(&format!("{token}\n"))
}

/// The sort of token, as the API's path says it, and the request for one.
fn request(generate: &Generate, mesh: &str) -> anyhow::Result<(&'static str, Value)> {
    Ok(match generate {
        Generate::DataplaneToken { name, services, zone, tags, validity } => {
            let mut request = json!({"mesh": mesh, "services": services, "validFor": validity.valid_for});
            for (key, value) in tags {
                let known = request["tags"][key].is_null();
                anyhow::ensure!(known, "--tag: {key} is there twice: leave one out");
                request["tags"][key] = json!(value);
            }
            for (field, value) in [("name", name), ("zone", zone)] {
                if let Some(value) = value {
                    request[field] = json!(value);
                }
            }
            ("dataplane", request)
        }
        Generate::IngressToken { name, validity } => {
            ("ingress", json!({"name": name, "validFor": validity.valid_for}))
        }
        Generate::ZoneToken { zone, validity } => {
            ("zone", json!({"zone": zone, "validFor": validity.valid_for}))
        }
        Generate::UserToken { name, groups, validity } => {
            ("user", json!({"name": name, "groups": groups, "validFor": validity.valid_for}))
        }
    })
}
