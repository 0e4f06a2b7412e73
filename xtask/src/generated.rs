//! Generated files: written, or compared with what is there.
//!
//! Invariant: a check writes nothing and finds also what is left over from an older generation.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// Makes the files with the extension in the folder equal to the given ones (name → content), or, in a check, fails
/// with the names of those that differ.
pub(crate) fn sync(
    folder: &Path,
    extension: &str,
    files: &BTreeMap<String, String>,
    check: bool,
) -> anyhow::Result<()> {
    let mut differ = Vec::new();
    for (name, content) in files {
        let path = folder.join(name);
        if fs::read_to_string(&path).ok().as_ref() == Some(content) {
            continue;
        }
        differ.push(format!("{} is not current", path.display()));
        if !check {
            fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_some_and(|found| found == extension) && !files.contains_key(&name) {
            differ.push(format!("{} is left over", path.display()));
            if !check {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
    }
    if check && !differ.is_empty() {
        bail!("generated files differ from their source; run `make generate`:\n  {}", differ.join("\n  "));
    }
    println!("{}: {} generated files, {} changed", folder.display(), files.len(), differ.len());
    Ok(())
}

/// With the keys of each object in order: serde_json keeps either this order or that of insertion, by feature.
pub(crate) fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let map: BTreeMap<String, Value> =
                map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(map.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_finds_old_changed_and_left_over_files_and_writes_none() {
        let folder = std::env::temp_dir().join(format!("xtask-generated-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("old.yaml"), "old").unwrap();
        fs::write(folder.join("changed.yaml"), "before").unwrap();
        fs::write(folder.join("other.rs"), "not ours").unwrap();
        let files = BTreeMap::from([
            ("changed.yaml".to_owned(), "after".to_owned()),
            ("new.yaml".to_owned(), "new".to_owned()),
        ]);

        let found = sync(&folder, "yaml", &files, true).unwrap_err().to_string();
        for part in ["changed.yaml is not current", "new.yaml is not current", "old.yaml is left over"] {
            assert!(found.contains(part), "{found}");
        }
        assert_eq!(fs::read_to_string(folder.join("changed.yaml")).unwrap(), "before");
        assert!(!folder.join("new.yaml").exists());

        sync(&folder, "yaml", &files, false).unwrap();
        sync(&folder, "yaml", &files, true).unwrap();
        assert!(!folder.join("old.yaml").exists());
        assert!(folder.join("other.rs").exists());
        fs::remove_dir_all(&folder).unwrap();
    }
}
