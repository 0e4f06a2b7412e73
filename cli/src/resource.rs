//! Names of resources: as people type and read them, and as the API's paths.

use ursa_crds::{KINDS, Kind, ObjectKey, Scope};

use crate::failure::usage;

/// The kind that a word means.
pub(crate) fn kind(word: &str) -> anyhow::Result<Kind> {
    Kind::by_word(word).ok_or_else(|| {
        let known: Vec<String> = KINDS
            .iter()
            .map(|info| match info.short_names {
                [] => info.singular.to_owned(),
                short => format!("{} ({})", info.singular, short.join(", ")),
            })
            .collect();
        usage(format!("{word:?} is no kind of resource; there are {}", known.join(", ")))
    })
}

/// The key of an object of the kind; `mesh` counts for kinds that are in a mesh.
pub(crate) fn key(kind: Kind, mesh: &str, name: &str) -> ObjectKey {
    match kind.info().scope {
        Scope::Global => {
            ObjectKey { kind, mesh: String::new(), namespace: String::new(), name: name.to_owned() }
        }
        Scope::Mesh => ObjectKey::in_mesh(kind, mesh, name),
    }
}

/// `trafficroute/redis`.
pub(crate) fn short(key: &ObjectKey) -> String {
    format!("{}/{}", key.kind.info().singular, key.name)
}

/// The path of all objects of a kind.
pub(crate) fn list_path(kind: Kind, mesh: &str) -> Vec<&str> {
    let info = kind.info();
    match info.scope {
        Scope::Global => vec![info.plural],
        Scope::Mesh => vec!["meshes", mesh, info.plural],
    }
}

/// The path of an object.
pub(crate) fn path(key: &ObjectKey) -> Vec<&str> {
    let mut path = list_path(key.kind, &key.mesh);
    path.push(&key.name);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_each_of_its_words() {
        for info in KINDS {
            let words = [info.name, info.plural, info.singular];
            for word in words.iter().chain(info.short_names) {
                assert_eq!(kind(word).unwrap(), info.kind, "{word}");
            }
        }
        let error = kind("pod").unwrap_err().to_string();
        assert!(error.contains("\"pod\"") && error.contains("trafficroute (tr)"), "{error}");
    }

    #[test]
    fn paths_follow_the_scope() {
        assert_eq!(path(&key(Kind::Mesh, "m", "a")), ["meshes", "a"]);
        assert_eq!(path(&key(Kind::ZoneIngress, "m", "a")), ["zoneingresses", "a"]);
        assert_eq!(path(&key(Kind::TrafficRoute, "m", "a")), ["meshes", "m", "trafficroutes", "a"]);
    }
}
