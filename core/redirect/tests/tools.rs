//! What the goldens hold is taken by the real programs, each in a network namespace that lives only as long as it.
//!
//! Needs root, `nft`, `iptables` and `unshare` (Debian: nftables, iptables, util-linux); without them it fails.
//! Invariant: nothing of the host's own rules is touched.

mod case;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use case::Error;
use ursa_redirect::{UNDO, iptables, rules};

datatest_stable::harness! {
    { test = nft_takes_the_script, root = "testdata", pattern = r"\.in\.yaml$" },
    { test = iptables_restore_takes_the_texts, root = "testdata", pattern = r"\.in\.yaml$" },
}

fn nft_takes_the_script(path: &Path) -> Result<(), Error> {
    let Ok(settings) = case::read(path)? else { return Ok(()) };
    fed("nft --check --file -", &rules(&settings).to_string())?;
    // Checking alone does not resolve all that adding does.
    let script = format!("{}{UNDO}", rules(&settings));
    fed("nft --file - && test -z \"$(nft list ruleset)\"", &script)
}

fn iptables_restore_takes_the_texts(path: &Path) -> Result<(), Error> {
    let Ok(settings) = case::read(path)? else { return Ok(()) };
    let (v4, v6) = iptables::iptables(&settings);
    fed("iptables-restore --noflush --test", &v4)?;
    v6.map_or(Ok(()), |v6| fed("ip6tables-restore --noflush --test", &v6))
}

/// Runs a shell line in a fresh network namespace and gives it the text.
fn fed(line: &str, text: &str) -> Result<(), Error> {
    let mut child = Command::new("unshare")
        .args(["--net", "timeout", "20", "sh", "-c", line])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run unshare (Debian: util-linux): {error}"))?;
    child.stdin.take().expect("it is piped").write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{line}` refuses the text ({}): {said}\n{text}", output.status).into())
}
