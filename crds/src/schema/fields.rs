//! Fields of JSON by their path: `a.b[].c` is `c` of each element of `a.b`.

use serde_json::Value;

/// The first part of a path, whether it stands for each element, and the rest.
fn split(path: &str) -> (&str, bool, Option<&str>) {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let (name, each) = first.strip_suffix("[]").map_or((first, false), |name| (name, true));
    (name, each, rest)
}

/// Whether the field is there anywhere, and is not `null`.
pub(super) fn is_present(value: &Value, path: &str) -> bool {
    let (name, each, rest) = split(path);
    let Some(found) = value.get(name).filter(|found| !found.is_null()) else { return false };
    match rest {
        None => true,
        Some(rest) if each => found.as_array().into_iter().flatten().any(|item| is_present(item, rest)),
        Some(rest) => is_present(found, rest),
    }
}

/// Removes the field wherever it is.
pub(super) fn remove(value: &mut Value, path: &str) {
    let (name, each, rest) = split(path);
    let Some(fields) = value.as_object_mut() else { return };
    match (rest, fields.get_mut(name)) {
        (_, None) => {}
        (None, Some(_)) => drop(fields.remove(name)),
        (Some(rest), Some(found)) if each => {
            found.as_array_mut().into_iter().flatten().for_each(|item| remove(item, rest));
        }
        (Some(rest), Some(found)) => remove(found, rest),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_reaches_into_objects_and_each_element() {
        let full = json!({"spec": {"list": [{"a": 1, "b": 2}, {"b": 3}], "c": {"d": 4}, "e": null}});
        let mut value = full.clone();
        for (path, there) in [
            ("spec.list[].a", true),
            ("spec.c.d", true),
            ("spec.e", false),
            ("spec.list[].z", false),
            ("x.y", false),
        ] {
            assert_eq!(is_present(&full, path), there, "{path}");
            remove(&mut value, path);
            assert!(!is_present(&value, path), "{path}");
        }
        assert_eq!(value, json!({"spec": {"list": [{"b": 2}, {"b": 3}], "c": {}}}));
    }
}
