//! Goldens: settings in; out comes what `nft -f` and `iptables-restore --noflush` take, or why the settings are refused.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ursa-redirect --test golden` rewrites the outputs.
//! Invariant: a case has either both texts or a refusal, never both nor neither.

mod case;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use case::Error;
use ursa_redirect::iptables::{self, Saved};
use ursa_redirect::{Settings, rules};

datatest_stable::harness! {
    { test = golden, root = "testdata", pattern = r"\.in\.yaml$" },
    { test = every_output_has_an_input, root = "testdata", pattern = r"" },
}

const OUTPUTS: [&str; 3] = [".nft", ".iptables", ".refused"];

fn golden(path: &Path) -> Result<(), Error> {
    let texts = match case::read(path)? {
        Ok(settings) => [Some(rules(&settings).to_string()), Some(iptables_text(&settings)), None],
        Err(refusal) => [None, None, Some(format!("{refusal}\n"))],
    };
    for (ending, text) in OUTPUTS.iter().zip(texts) {
        compare(&PathBuf::from(path.to_string_lossy().replace(".in.yaml", ending)), text.as_deref())?;
    }
    Ok(())
}

fn every_output_has_an_input(path: &Path) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let case = name.split('.').next().unwrap_or_default();
    let input = path.with_file_name(format!("{case}.in.yaml"));
    input.exists().then_some(()).ok_or_else(|| format!("{} is missing", input.display()).into())
}

/// Each program's text, and the one that undoes it.
fn iptables_text(settings: &Settings) -> String {
    let (v4, v6) = iptables::iptables(settings);
    let mut text = String::new();
    for (program, up) in [("iptables-restore", Some(v4)), ("ip6tables-restore", v6)] {
        let Some(up) = up else { continue };
        let undo = iptables::undo(&Saved::read(&saved_after(&up)));
        let _ = write!(text, "# {program} --noflush\n{up}\n# {program} --noflush, to undo it\n{undo}\n");
    }
    text
}

/// What `iptables-save` prints once this is there.
fn saved_after(up: &str) -> String {
    up.replace("-I OUTPUT 1 ", "-A OUTPUT ").replace("-I PREROUTING 1 ", "-A PREROUTING ")
}

fn compare(path: &Path, actual: Option<&str>) -> Result<(), Error> {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return match actual {
            Some(actual) => Ok(std::fs::write(path, actual)?),
            None if path.exists() => Ok(std::fs::remove_file(path)?),
            None => Ok(()),
        };
    }
    let expected = path.exists().then(|| std::fs::read_to_string(path)).transpose()?;
    if expected.as_deref() == actual {
        return Ok(());
    }
    let (expected, actual) = (expected.unwrap_or_default(), actual.unwrap_or_default());
    let diff = similar::TextDiff::from_lines(expected.as_str(), actual);
    Err(format!("{} differs (UPDATE_GOLDEN=1 rewrites it):\n{}", path.display(), diff.unified_diff()).into())
}
