//! `zone`: lets zones join a global control plane.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::args::{Common, Zone};
use crate::environment::Environment;
use crate::files::write_private;
use crate::{commands, output};

pub(crate) async fn run(common: &Common, environment: &Environment, zone: &Zone) -> anyhow::Result<()> {
    let Zone::Create { name, folder, secret, namespace, valid_for } = zone;
    let client = commands::connect(common, environment)?;
    let answer = client.post(&["tokens", "zone"], &json!({"zone": name, "validFor": valid_for})).await?;
    let text = |field: &str| {
        let value = answer[field].as_str();
        value.with_context(|| format!("the control plane answered without {field:?}, which a zone needs"))
    };
    if let Some(folder) = folder {
        for (name, content) in [("zone-token", text("token")?), ("global-ca.pem", text("ca")?)] {
            let path = folder.join(name);
            write_private(&path, content.as_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        return Ok(());
    }
    let secret = secret.clone().unwrap_or_else(|| format!("zone-{name}"));
    let manifest = credential(&secret, namespace, text("token")?, text("ca")?, text("expiresAt")?);
    output::print(&output::structured(common.output, &manifest)?.map_or_else(|| output::yaml(&manifest), Ok)?)
}

/// As `spec.zone.credentialSecretRef` of a ControlPlane expects it.
fn credential(name: &str, namespace: &str, token: &str, ca: &str, expires_at: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": name, "namespace": namespace, "annotations": {"ursamesh.io/expires-at": expires_at}},
        "stringData": {"token": token, "ca.crt": ca},
    })
}
