//! `revoke`: takes tokens back, and says what is left to do.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::args::{Common, Revoke};
use crate::environment::Environment;
use crate::{commands, output};

pub(crate) async fn run(common: &Common, environment: &Environment, revoke: &Revoke) -> anyhow::Result<()> {
    let (sort, request) = request(common, revoke)?;
    let client = commands::connect(common, environment)?;
    let answer = client.post(&["tokens", sort, "revoke"], &request).await?;
    if let Some(text) = output::structured(common.output, &answer)? {
        return output::print(&text);
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    output::print(&match revoke {
        Revoke::DataplaneToken { .. } => {
            let revoked = &answer["revokedToken"];
            let (Some(mesh), Some(id), Some(at)) =
                (text(&answer["mesh"]), text(&revoked["id"]), text(&revoked["revokedAt"]))
            else {
                anyhow::bail!("the control plane answered without what was revoked");
            };
            dataplane_token(&mesh, &id, &at, text(&answer["certificatesEndBy"]).as_deref())
        }
        Revoke::Zone { name } => {
            let at = text(&answer["credentialsNotBefore"]);
            zone(name, &at.context("the control plane answered without what was revoked")?)
        }
    })
}

/// The sort of token, as the API's path says it, and the request.
fn request(common: &Common, revoke: &Revoke) -> anyhow::Result<(&'static str, Value)> {
    Ok(match revoke {
        Revoke::DataplaneToken { file, id, reason } => {
            let mut request = json!({});
            if let Some(file) = file {
                let token = std::fs::read_to_string(file)
                    .with_context(|| format!("cannot read the token in {}", file.display()))?;
                request["token"] = json!(token.trim());
            }
            for (field, value) in [("mesh", &common.mesh), ("id", id), ("reason", reason)] {
                if let Some(value) = value {
                    request[field] = json!(value);
                }
            }
            ("dataplane", request)
        }
        Revoke::Zone { name } => ("zone", json!({"zone": name})),
    })
}

fn dataplane_token(mesh: &str, id: &str, at: &str, certificates_end: Option<&str>) -> String {
    let certificates = certificates_end.map_or_else(String::new, |end| {
        format!(
            "- Until {end} at the latest, whoever took key and certificate of its proxy can still call what its service may \
             call: remove them from the machine (`data` folder of ursa-dp).\n"
        )
    });
    format!(
        "token {id} of mesh {mesh} was revoked at {at}: in no zone does it let anybody in, nor does a certificate signed on it.\n\
         To be done:\n\
         {certificates}\
         - Who is to go on needs another token, in its token file: ursactl generate dataplane-token, at the zone's control plane.\n"
    )
}

fn zone(name: &str, at: &str) -> String {
    format!(
        "credentials of zone {name} from before {at} were revoked: its stream to global ends, and it goes on with what it has.\n\
         To be done:\n\
         - If it is to come back, give its control plane another: ursactl zone create {name}\n\
         - If it is not, delete it, so that nobody trusts its certificates any more: ursactl delete zone {name}\n"
    )
}
