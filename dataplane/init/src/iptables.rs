//! Tells the kernel by `iptables-restore`, where it has no nftables.
//!
//! Invariant: a table of a family changes in one transaction; if one is refused, nothing of ours is left.

use std::io::{ErrorKind, Write as _};
use std::process::{Command, Output, Stdio};

use ursa_redirect::iptables::{Saved, undo, up};
use ursa_redirect::{Family, Ruleset};

use crate::ipv6;

/// Why the kernel was not told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no such program.
    #[error("there is no {0}: install iptables, or use --backend nftables")]
    NoProgram(&'static str),
    /// The program could not be run.
    #[error("cannot run {0}")]
    NotRun(&'static str, #[source] std::io::Error),
    /// The process may not.
    #[error("{}", crate::capture::NOT_PERMITTED)]
    NotPermitted,
    /// The program would not.
    #[error(
        "{program} refuses the rules ({said}): the kernel has to have the modules of the tables nat and raw, and \
         xt_REDIRECT, xt_owner, xt_CT and xt_addrtype; for IPv6 too, or else use --no-ipv6"
    )]
    Refused {
        /// The program.
        program: &'static str,
        /// What it wrote.
        said: String,
    },
}

struct Programs {
    family: Family,
    save: &'static str,
    restore: &'static str,
}

const PROGRAMS: [Programs; 2] = [
    Programs { family: Family::V4, save: "iptables-save", restore: "iptables-restore" },
    Programs { family: Family::V6, save: "ip6tables-save", restore: "ip6tables-restore" },
];

/// Seconds to wait for other programs that are changing rules.
const WAIT: &str = "10";

/// Puts the ruleset in the place of what there is of ours. Says whether there was something.
pub(crate) fn put(ruleset: &Ruleset) -> Result<bool, Error> {
    replace(Some(ruleset)).inspect_err(|_| {
        // What failed is what is told; a half of a capture would be worse than none.
        let _ = remove();
    })
}

/// Removes what there is of ours. Says whether there was something. Without the programs there is nothing.
pub(crate) fn remove() -> Result<bool, Error> {
    match replace(None) {
        Err(Error::NoProgram(_)) => Ok(false),
        other => other,
    }
}

fn replace(ruleset: Option<&Ruleset>) -> Result<bool, Error> {
    let mut there = false;
    for Programs { family, save, restore } in PROGRAMS {
        if family == Family::V6 && !ipv6::is_there() {
            continue;
        }
        let saved = match run(save, &[], None) {
            Ok(output) => Saved::read(&String::from_utf8_lossy(&output.stdout)),
            // Where rules can't even be listed there are none.
            Err(Error::Refused { .. }) if ruleset.is_none() => continue,
            Err(error) => return Err(error),
        };
        there |= !saved.is_empty();
        let text = match ruleset {
            Some(ruleset) if family == Family::V4 || ruleset.ipv6 => up(ruleset, family, &saved),
            _ => undo(&saved),
        };
        if !text.is_empty() {
            run(restore, &["--noflush", "--wait", WAIT], Some(&text))?;
        }
    }
    Ok(there)
}

fn run(program: &'static str, arguments: &[&str], input: Option<&str>) -> Result<Output, Error> {
    let not_run = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Error::NoProgram(program),
        _ => Error::NotRun(program, error),
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(not_run)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read all says why.
        let _ = stdin.write_all(input.unwrap_or_default().as_bytes());
    }
    let output = child.wait_with_output().map_err(not_run)?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let denied = ["Permission denied", "Operation not permitted", "must be root"];
    if denied.iter().any(|words| said.contains(words)) {
        return Err(Error::NotPermitted);
    }
    Err(Error::Refused { program, said: said.trim().lines().collect::<Vec<_>>().join("; ") })
}
