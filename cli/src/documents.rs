//! Resources from files. Invariant: one gets all objects of all files, each decoded, or everything that is wrong.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};
use ursa_crds::{DecodeError, KINDS, Object, ObjectKey, Problem, Scope};

use crate::failure::{Several, usage};
use crate::resource;

const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// An object as it was found.
#[derive(Debug)]
pub(crate) struct Document {
    /// The file, and the document in it, counted from 1 (empty ones are not counted).
    pub(crate) place: String,
    /// As it was written, with the mesh filled in.
    pub(crate) value: Value,
    /// As it was understood.
    pub(crate) object: Object,
}

impl Document {
    /// The object's key, outside Kubernetes.
    pub(crate) fn key(&self) -> ObjectKey {
        resource::key(self.object.kind(), self.object.spec.mesh().unwrap_or_default(), &self.object.meta.name)
    }
}

/// All objects in these files and folders, in the order in which they can be applied. Each must pass `check`; `mesh` is
/// the one that the user named, for those that name none.
pub(crate) fn read(
    paths: &[PathBuf],
    mesh: Option<&str>,
    check: fn(&Object) -> Vec<Problem>,
) -> anyhow::Result<Vec<Document>> {
    let mut documents = Vec::new();
    let mut problems = Vec::new();
    for file in files(paths)? {
        let (name, bytes) = content(&file)?;
        match ursa_crds::parse_documents(&bytes) {
            Ok(values) => {
                for (place, value) in places(&name, values) {
                    match decode(value, mesh, check) {
                        Ok((value, object)) => documents.push(Document { place, value, object }),
                        Err(found) => problems.extend(found.into_iter().map(|problem| at(&place, &problem))),
                    }
                }
            }
            Err(DecodeError::Unreadable(reason)) => problems.push(format!("{name} cannot be read: {reason}")),
            Err(DecodeError::Invalid(problem)) => problems.push(at(&name, &problem)),
        }
    }
    problems.extend(doubles(&documents));
    if !problems.is_empty() {
        return Err(Several(problems).into());
    }
    anyhow::ensure!(!documents.is_empty(), "the files hold no resource");
    documents.sort_by_key(|document| document.object.kind());
    Ok(documents)
}

fn at(place: &str, problem: &Problem) -> String {
    if problem.field.is_empty() {
        format!("{place}: {}", problem.message)
    } else {
        format!("{place}: {problem}")
    }
}

/// Which of two is meant cannot be known.
fn doubles(documents: &[Document]) -> Vec<String> {
    let mut first: BTreeMap<ObjectKey, &str> = BTreeMap::new();
    let mut found = Vec::new();
    for document in documents {
        match first.entry(document.key()) {
            Entry::Vacant(entry) => {
                entry.insert(&document.place);
            }
            Entry::Occupied(entry) => {
                let (key, first) = (resource::short(entry.key()), entry.get());
                found.push(format!("{}: {key} is already in {first}", document.place));
            }
        }
    }
    found
}

/// The documents of a file with their places; those in a list are told apart.
fn places(file: &str, values: Vec<Value>) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (position, mut value) in values.into_iter().enumerate() {
        let place = format!("{file}, document {}", position + 1);
        match value.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) if value["kind"] == "List" => {
                let items = items.into_iter().enumerate();
                found.extend(items.map(|(position, item)| (format!("{place}, items[{position}]"), item)));
            }
            Some(items) => {
                value["items"] = items;
                found.push((place, value));
            }
            None => found.push((place, value)),
        }
    }
    found
}

fn decode(
    mut value: Value,
    mesh: Option<&str>,
    check: fn(&Object) -> Vec<Problem>,
) -> Result<(Value, Object), Vec<Problem>> {
    if let Some(mesh) = mesh {
        fill_in(&mut value, mesh).map_err(|problem| vec![problem])?;
    }
    let object = ursa_crds::decode_value(&value).map_err(|problem| vec![problem])?;
    let problems = check(&object);
    if problems.is_empty() { Ok((value, object)) } else { Err(problems) }
}

/// Sets the mesh of an object that names none; one that names another is a contradiction.
fn fill_in(value: &mut Value, mesh: &str) -> Result<(), Problem> {
    let in_mesh = |info: &ursa_crds::KindInfo| info.scope == Scope::Mesh && value["kind"] == info.name;
    if !KINDS.iter().any(in_mesh) {
        return Ok(());
    }
    match &value["spec"]["mesh"] {
        Value::Null if value["spec"].is_object() => value["spec"]["mesh"] = json!(mesh),
        Value::String(named) if named != mesh => {
            return Err(Problem::new("spec.mesh", format!("is {named:?}, but --mesh says {mesh:?}")));
        }
        // What is wrong with it is the decoder's to say.
        _ => {}
    }
    Ok(())
}

/// The files themselves: those of a folder by name, not those of folders in it.
fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !is_standard_input(path) && path.is_dir() {
            let cannot = || format!("cannot read the folder {}", path.display());
            let mut found = Vec::new();
            for entry in fs::read_dir(path).with_context(cannot)? {
                let file = entry.with_context(cannot)?.path();
                let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
                if EXTENSIONS.contains(&extension) && !file.is_dir() {
                    found.push(file);
                }
            }
            anyhow::ensure!(!found.is_empty(), "{} has no *.yaml, *.yml or *.json", path.display());
            found.sort();
            files.extend(found);
        } else {
            files.push(path.clone());
        }
    }
    if files.iter().filter(|file| is_standard_input(file)).count() > 1 {
        return Err(usage("the standard input (-f -) can be read once only"));
    }
    Ok(files)
}

fn content(file: &Path) -> anyhow::Result<(String, Vec<u8>)> {
    if is_standard_input(file) {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("cannot read the standard input")?;
        return Ok(("standard input".into(), bytes));
    }
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok((file.display().to_string(), bytes))
}

fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, mesh: Option<&str>) -> Result<Vec<Document>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f.yaml");
        fs::write(&file, text).unwrap();
        let error = |error: anyhow::Error| error.to_string().replace(&file.display().to_string(), "f.yaml");
        read(std::slice::from_ref(&file), mesh, ursa_policy::validate).map_err(error)
    }

    fn permission(name: &str, mesh: &str) -> String {
        let all = "[{match: {ursamesh.io/service: '*'}}]";
        format!(
            "apiVersion: ursamesh.io/v1alpha1\nkind: TrafficPermission\nmetadata: {{name: {name}}}\nspec: {{{mesh} sources: {all}, destinations: {all}}}\n"
        )
    }

    const MESH: &str = "apiVersion: ursamesh.io/v1alpha1\nkind: Mesh\nmetadata: {name: m}\n";

    #[test]
    fn objects_come_in_the_order_in_which_they_can_be_applied() {
        let text =
            format!("# a comment\n---\n{}---\n---\n{}---\n{MESH}", permission("b", ""), permission("a", ""));
        let documents = read_text(&text, None).unwrap();
        let names: Vec<_> = documents.iter().map(|document| resource::short(&document.key())).collect();
        assert_eq!(names, ["mesh/m", "trafficpermission/b", "trafficpermission/a"]);
        assert!(documents[0].place.ends_with(", document 3"), "{}", documents[0].place);
    }

    #[test]
    fn everything_that_is_wrong_is_said_with_its_place() {
        let text = format!(
            "{}---\n{MESH}---\n{}---\nkind: Pod\n",
            permission("B_", "rate: 1,"),
            permission("Up", "mesh: 'No', ")
        );
        let problems = read_text(&text, None).unwrap_err();
        let lines: Vec<&str> = problems.lines().collect();
        assert_eq!(lines.len(), 4, "{problems}");
        assert_eq!(lines[0], "f.yaml, document 1: spec.rate: unknown field");
        assert!(lines[1].starts_with("f.yaml, document 3: metadata.name: "), "{problems}");
        assert!(lines[2].starts_with("f.yaml, document 3: spec.mesh: "), "{problems}");
        assert!(lines[3].starts_with("f.yaml, document 4: apiVersion: "), "{problems}");
        assert!(read_text("a: [", None).unwrap_err().starts_with("f.yaml cannot be read: "));
        assert!(read_text("- 1\n", None).unwrap_err().starts_with("f.yaml, document 1: a resource is a map"));
    }

    #[test]
    fn the_mesh_is_filled_in_where_none_is_named() {
        let mesh = |text: &str, mesh| Ok::<_, String>(read_text(text, mesh)?.remove(0).key().mesh);
        assert_eq!(mesh(&permission("a", ""), None).unwrap(), "default");
        assert_eq!(mesh(&permission("a", ""), Some("m")).unwrap(), "m");
        assert_eq!(mesh(&permission("a", "mesh: m,"), Some("m")).unwrap(), "m");
        assert_eq!(mesh(&permission("a", "mesh: m,"), None).unwrap(), "m");
        let error = mesh(&permission("a", "mesh: m,"), Some("n")).unwrap_err();
        assert_eq!(error, "f.yaml, document 1: spec.mesh: is \"m\", but --mesh says \"n\"");
        assert_eq!(mesh(MESH, Some("n")).unwrap(), "", "a mesh is in none");
        let no_spec = "apiVersion: ursamesh.io/v1alpha1\nkind: TrafficRoute\nmetadata: {name: r}\nspec: 7\n";
        assert!(read_text(no_spec, Some("m")).unwrap_err().contains("document 1: spec"));
    }

    #[test]
    fn the_same_object_twice_is_refused() {
        let error = read_text(&format!("{MESH}---\n{MESH}"), None).unwrap_err();
        assert_eq!(error, "f.yaml, document 2: mesh/m is already in f.yaml, document 1");
        let others = format!("{}---\n{}", permission("a", "mesh: m,"), permission("a", "mesh: o,"));
        assert_eq!(read_text(&others, None).unwrap().len(), 2);
    }

    #[test]
    fn a_list_holds_documents() {
        let item: Value = serde_saphyr::from_str(MESH).unwrap();
        let list = crate::output::list(&[item, json!({"kind": "Pod"})]).to_string();
        let error = read_text(&list, None).unwrap_err();
        assert!(error.starts_with("f.yaml, document 1, items[1]: apiVersion"), "{error}");
        let not_a_list = format!("{MESH}items: []\n");
        assert_eq!(read_text(&not_a_list, None).unwrap_err(), "f.yaml, document 1: items: unknown field");
    }

    #[test]
    fn folders_give_their_resources_by_name() {
        let folder = tempfile::tempdir().unwrap();
        assert!(files(&[folder.path().into()]).unwrap_err().to_string().contains("no *.yaml"));
        for name in ["b.yml", "a.yaml", "c.json", "d.txt", "README"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join("e.yaml")).unwrap();
        let found = files(&[folder.path().into(), "-".into()]).unwrap();
        let names: Vec<_> = found.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.yaml", "b.yml", "c.json", "-"]);
        assert!(files(&["-".into(), "-".into()]).is_err());
    }
}
