//! `zone`: lets zones join a global control plane.

use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::args::{Common, Zone};
use crate::environment::Environment;
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
        write_private(&folder.join("zone-token"), text("token")?)?;
        write_private(&folder.join("global-ca.pem"), text("ca")?)?;
        return Ok(());
    }
    let secret = secret.clone().unwrap_or_else(|| format!("zone-{name}"));
    let manifest = credential(&secret, namespace, text("token")?, text("ca")?, text("expiresAt")?);
    output::print(&output::structured(common.output, &manifest)?.map_or_else(|| output::yaml(&manifest), Ok)?)
}

/// Writes a file for this user only.
fn write_private(path: &Path, content: &str) -> anyhow::Result<()> {
    let open = || OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    open()
        .and_then(|mut file| {
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(content.as_bytes())
        })
        .with_context(|| format!("cannot write {}", path.display()))
}

/// As `spec.zone.credentialSecretRef` of a ControlPlane expects it.
fn credential(name: &str, namespace: &str, token: &str, ca: &str, expires_at: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": name, "namespace": namespace, "annotations": {"ursamesh.io/expires-at": expires_at}},
        "stringData": {"token": token, "ca.crt": ca},
    })
}
