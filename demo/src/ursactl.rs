//! `ursactl` as a user of the demo runs it, with the global control plane's address and admin token.

use std::process::Stdio;

use anyhow::{Context as _, ensure};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::Demo;

/// Applies resources, given as YAML.
pub async fn apply(demo: &Demo, yaml: &str) -> anyhow::Result<()> {
    run(demo, &["apply", "-f", "-"], yaml).await
}

/// Deletes a resource of the demo's mesh, which must exist.
pub async fn delete(demo: &Demo, kind: &str, name: &str) -> anyhow::Result<()> {
    run(demo, &["delete", kind, name], "").await
}

async fn run(demo: &Demo, args: &[&str], input: &str) -> anyhow::Result<()> {
    let global = demo.endpoints().global;
    let what = format!("ursactl {}", args.join(" "));
    let mut command = Command::new(&demo.programs().ursactl);
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("URSA_") {
            command.env_remove(key);
        }
    }
    command.args(args).args(["--api", &global.api, "--token-file"]).arg(&global.admin_token_file);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot start {what}"))?;
    let mut stdin = child.stdin.take().context("its standard input is a pipe")?;
    stdin.write_all(input.as_bytes()).await.with_context(|| what.clone())?;
    drop(stdin);
    let output = child.wait_with_output().await.with_context(|| what.clone())?;
    ensure!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
