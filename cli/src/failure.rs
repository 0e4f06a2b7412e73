//! How a command ends badly: the exit code and the lines on the standard error.

use std::fmt;
use std::process::ExitCode;

/// The command line, or what it refers to, does not make sense: nothing was tried.
#[derive(Debug)]
pub(crate) struct Usage(String);

/// Several things failed.
#[derive(Debug)]
pub(crate) struct Several(pub(crate) Vec<String>);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Several {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Usage {}
impl std::error::Error for Several {}

/// An error of usage.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Usage(message.into()))
}

/// Fails if anything did.
pub(crate) fn none_of(failures: Vec<String>) -> anyhow::Result<()> {
    if failures.is_empty() { Ok(()) } else { Err(Several(failures).into()) }
}

/// The lines for people, and the exit code: 2 for usage, else 1.
pub(crate) fn report(error: &anyhow::Error) -> (String, u8) {
    let lines = match error.downcast_ref() {
        Some(Several(lines)) => lines.clone(),
        None => vec![format!("{error:#}")],
    };
    let lines: Vec<String> = lines.iter().map(|line| format!("error: {}\n", plain(line))).collect();
    (lines.concat(), if error.is::<Usage>() { 2 } else { 1 })
}

/// As [`report`], for the process.
pub(crate) fn exit(error: &anyhow::Error) -> ExitCode {
    use std::io::Write as _;
    let (text, code) = report(error);
    // Nobody is left to tell if that fails.
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::from(code)
}

/// Without control characters other than line ends: a text of someone else must not command the terminal.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_control() && c != '\n' { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_told_from_failure_through_any_context() {
        assert_eq!(report(&usage("x").context("while y")), ("error: while y: x\n".into(), 2));
        assert_eq!(report(&anyhow::anyhow!("x")), ("error: x\n".into(), 1));
        let several = none_of(vec!["a".into(), "b\u{1b}[31m".into()]).unwrap_err();
        assert_eq!(report(&several), ("error: a\nerror: b\\u{1b}[31m\n".into(), 1));
        assert!(none_of(Vec::new()).is_ok());
    }
}
