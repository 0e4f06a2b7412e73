//! Each policy kind has the goldens that every policy kind must have.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use ursa_crds::{KINDS, Kind, Owner, Scope};

const CASES: [&str; 4] = ["basic", "override", "conflict", "invalid"];

/// Whether an input holds a resource of this kind.
fn shows(input: &Path, kind: &str) -> bool {
    let documents = ursa_crds::parse_documents(&std::fs::read(input).unwrap_or_default()).unwrap();
    documents.iter().any(|document| document["kind"] == kind)
}

#[test]
fn each_policy_kind_has_its_goldens() {
    let policies: Vec<_> =
        KINDS.iter().filter(|info| info.scope == Scope::Mesh && info.owner == Owner::Global).collect();
    assert!(policies.iter().any(|info| info.kind == Kind::TrafficRoute), "policies are what is listed");
    let folders: Vec<_> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    for info in policies {
        let complete = |folder: &Path| {
            CASES.iter().all(|case| shows(&folder.join(format!("{case}.in.yaml")), info.name))
        };
        assert!(
            folders.iter().any(|folder| complete(folder)),
            "{} needs a folder with the cases {CASES:?}",
            info.name
        );
    }
}
