//! What is done to the host: files, users, services.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown, fchown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::unistd::geteuid;

use super::plan::{File, PROXY_UNIT, Readers};
use crate::files;

/// Where the unit expects it.
const PROGRAM: &str = "/usr/local/bin/ursa-dp";
/// The user of the proxy and its group. `ursa-init` does not capture what it sends.
const PROXY: (&str, u32) = ("ursa-dp", 5678);
const USERS: &str = "/etc/passwd";
const SYSUSERS: &str = "/etc/sysusers.d/ursa.conf";

/// Whether a proxy can be set up here.
pub(super) fn is_ready_for(envoy: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(geteuid().is_root(), "joining sets up services of this host: run it as root (sudo)");
    anyhow::ensure!(
        Path::new("/run/systemd/system").is_dir(),
        "this host is not run by systemd: start `ursa-dp run` by what runs it (`ursa-dp run --help`)"
    );
    for program in [Path::new(PROGRAM), Path::new("/usr/local/bin/ursa-init"), envoy] {
        anyhow::ensure!(program.is_file(), "{} is missing: install it there first", program.display());
    }
    Ok(())
}

/// Makes the users that the services run as, unless they are there.
pub(super) fn make_users() -> anyhow::Result<()> {
    let content = include_bytes!("../../../config/vm/ursa.sysusers.conf").to_vec();
    write(&File { path: SYSUSERS.into(), content, readers: Readers::Everybody })?;
    run("systemd-sysusers", &[SYSUSERS])?;
    let (name, uid) = PROXY;
    let user = nix::unistd::User::from_name(name)?.with_context(|| format!("there is no user {name}"))?;
    anyhow::ensure!(
        user.uid.as_raw() == uid && user.gid.as_raw() == uid,
        "the user {name} must have the number {uid}, and a group of the same number, which are others' here: free them"
    );
    Ok(())
}

/// The users of this host.
pub(super) fn users() -> anyhow::Result<String> {
    fs::read_to_string(USERS).with_context(|| format!("cannot read {USERS}"))
}

/// Replaces a file as a whole.
pub(super) fn write(file: &File) -> anyhow::Result<()> {
    let File { path, content, readers } = file;
    let (mode, folder_mode, group) = match readers {
        Readers::Proxy => (0o640, 0o750, Some(PROXY.1)),
        Readers::Everybody => (0o644, 0o755, None),
    };
    let written = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        if !folder.is_dir() {
            DirBuilder::new().recursive(true).mode(folder_mode).create(folder)?;
            chown(folder, Some(0), group)?;
        }
        files::write(path, content, |file| {
            fchown(file, Some(0), group)?;
            file.set_permissions(Permissions::from_mode(mode))
        })
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

pub(super) fn systemctl(arguments: &[&str]) -> anyhow::Result<()> {
    run("systemctl", arguments)
}

/// Starts it anew, and waits until it serves.
pub(super) fn start_proxy(within: Duration) -> anyhow::Result<()> {
    let seconds = within.as_secs().max(1).to_string();
    let start = Command::new("timeout").args([&seconds, "systemctl", "restart", PROXY_UNIT]).output();
    if start.context("cannot run systemctl")?.status.success() {
        return Ok(());
    }
    let journal =
        Command::new("journalctl").args(["--unit", PROXY_UNIT, "--lines", "20", "--no-pager"]).output();
    let said = journal.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    bail!(
        "{PROXY_UNIT} does not serve within {seconds} s; it is tried on. What it said last (`journalctl -u {PROXY_UNIT}`):\n{said}"
    )
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{program} {}: {}", arguments.join(" "), said.trim());
    Ok(())
}
