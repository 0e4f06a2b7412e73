//! What goes to the standard output.

use std::io::{ErrorKind, Write as _, stderr, stdout};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::args::Output;

/// Writes text. A reader that has seen enough (`ursactl … | head`) is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to the standard output"),
    }
}

/// Tells a person something beside the output.
pub(crate) fn note(text: &str) {
    // There is nobody left to tell.
    let _ = writeln!(stderr(), "{text}");
}

/// A value as YAML or JSON, with a line end; `None` for a table, which is not made of values alone.
pub(crate) fn structured(output: Output, value: &Value) -> anyhow::Result<Option<String>> {
    Ok(match output {
        Output::Table => None,
        Output::Yaml => Some(yaml(value)?),
        Output::Json => Some(format!("{value:#}\n")),
    })
}

/// A value as YAML, with a line end.
pub(crate) fn yaml(value: &Value) -> anyhow::Result<String> {
    let mut text = serde_saphyr::to_string(value).context("the result cannot be said as YAML")?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Several resources as one document, which `apply -f` takes again.
pub(crate) fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_reads_back_as_the_same_value() {
        let value = json!({"a": "12", "b": "true", "c": "", "d": ["*", "- x", "a: b", "ä\nb\n"], "e": {}, "f": [],
            "g": 1, "h": null, "i": "null", "j": "0x1f", "k": "1e3", "l": "~", "m": " x ", "n": "no", "z": "x\n\n"});
        let read: Value = serde_saphyr::from_str(&yaml(&value).unwrap()).unwrap();
        assert_eq!(read, value);
    }
}
