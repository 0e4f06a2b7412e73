//! Compares the workspace's dependencies with the layout in [`crate::arrows`].
//!
//! Normal and build dependencies count; tests may look sideways. Invariant: reports every breach, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use crate::arrows::{ARROWS, Arrow, FENCES};

/// What is read of `cargo metadata --no-deps`.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: String,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `null` for a normal one, else `dev` or `build`.
    kind: Option<String>,
}

/// A crate of the workspace: its folder and what it depends on.
#[derive(Debug, PartialEq)]
struct Member {
    name: String,
    folder: String,
    uses: BTreeSet<String>,
}

/// `cargo xtask deps`.
pub(crate) fn run() -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let members = members(&output.stdout)?;
    let breaches = breaches(&members);
    if !breaches.is_empty() {
        bail!("dependencies that break the layout (xtask/src/arrows.rs):\n{}", breaches.join("\n"));
    }
    let arrows: usize = members.iter().map(|member| internal(member, &members).count()).sum();
    println!("deps: {} crates, {arrows} arrows between them, all in the layout", members.len());
    Ok(())
}

fn members(metadata: &[u8]) -> anyhow::Result<Vec<Member>> {
    let Metadata { packages, workspace_root } =
        serde_json::from_slice(metadata).context("cannot read cargo metadata")?;
    let member = |package: Package| {
        let folder = package
            .manifest_path
            .strip_prefix(&workspace_root)
            .and_then(|path| path.strip_suffix("Cargo.toml"))
            .with_context(|| format!("{} lies outside the workspace", package.manifest_path))?
            .trim_matches('/')
            .to_owned();
        let counts = |dependency: &Dependency| dependency.kind.as_deref() != Some("dev");
        let uses = package.dependencies.into_iter().filter(counts).map(|d| d.name).collect();
        Ok(Member { name: package.name, folder, uses })
    };
    let mut members = packages.into_iter().map(member).collect::<anyhow::Result<Vec<_>>>()?;
    members.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(members)
}

/// The crates of the workspace that a member depends on.
fn internal<'a>(member: &'a Member, members: &'a [Member]) -> impl Iterator<Item = &'a Member> {
    members.iter().filter(|other| member.uses.contains(&other.name))
}

/// Whether a folder is another one or lies in it; everything lies in the empty one.
fn within(folder: &str, outer: &str) -> bool {
    outer.is_empty()
        || folder.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The arrow that lets the one depend on the other.
fn permit(from: &str, to: &str) -> Option<&'static Arrow> {
    ARROWS.iter().find(|arrow| within(from, arrow.from) && within(to, arrow.to))
}

fn breaches(members: &[Member]) -> Vec<String> {
    let folders: BTreeMap<&str, &str> =
        members.iter().map(|m| (m.name.as_str(), m.folder.as_str())).collect();
    let mut breaches = Vec::new();
    for member in members {
        let from = &member.folder;
        for used in &member.uses {
            if let Some(to) = folders.get(used.as_str()) {
                if permit(from, to).is_none() {
                    let allowed: Vec<String> = ARROWS
                        .iter()
                        .filter(|arrow| within(from, arrow.from))
                        .map(|arrow| format!("{} ({})", arrow.to, arrow.why))
                        .collect();
                    breaches
                        .push(format!("  {from} -> {to}; {from} may depend on: [{}]", allowed.join(", ")));
                }
                continue;
            }
            for fence in FENCES {
                let named =
                    used.strip_prefix(fence.outside).is_some_and(|r| r.is_empty() || r.starts_with('-'));
                let excepted = fence.except.iter().any(|folder| within(from, folder));
                if named && within(from, fence.banned) && !excepted {
                    breaches.push(format!("  {from} -> {used} (from outside): {}", fence.why));
                }
            }
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(crates: &[(&str, &[&str])]) -> Vec<Member> {
        let name = |folder: &str| folder.replace('/', "-");
        crates
            .iter()
            .map(|(folder, uses)| Member {
                name: name(folder),
                folder: (*folder).to_owned(),
                uses: uses.iter().map(|used| name(used)).collect(),
            })
            .collect()
    }

    #[test]
    fn arrows_of_the_layout_pass() {
        let members = workspace(&[
            ("crds", &["serde"]),
            ("core/model", &["serde"]),
            ("core/policy", &["crds", "core/model"]),
            ("core/envoy", &["core/model", "envoy-types"]),
            ("controlplane/server", &["controlplane/store", "core/policy", "tokio"]),
            ("controlplane/store", &["crds", "tokio"]),
            ("e2e", &["controlplane/store", "crds"]),
        ]);
        assert_eq!(breaches(&members), Vec::<String>::new());
    }

    #[test]
    fn each_arrow_outside_the_layout_is_named_with_what_is_allowed() {
        let members = workspace(&[
            ("crds", &["core/model"]),
            ("core/model", &[]),
            ("core/policy", &["controlplane/store"]),
            ("controlplane/store", &["controlplane/server"]),
            ("controlplane/server", &[]),
        ]);
        let found = breaches(&members);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("  crds -> core/model;"), "{}", found[0]);
        assert!(found[1].contains("core/policy -> controlplane/store"), "{}", found[1]);
        assert!(found[1].contains("core/model (a match ends in the model of a proxy)"), "{}", found[1]);
        assert!(found[2].contains("controlplane/store -> controlplane/server"), "{}", found[2]);
    }

    #[test]
    fn the_core_stays_pure_and_envoy_types_behind_it() {
        let members = workspace(&[
            ("core/envoy", &["envoy-types", "tonic-prost"]),
            ("core/policy", &["tokio", "kube-client"]),
            ("controlplane/xds", &["envoy-types", "tokio", "tonic"]),
        ]);
        let found = breaches(&members);
        let starts = [
            "core/envoy -> tonic-prost",
            "core/policy -> kube-client",
            "core/policy -> tokio",
            "controlplane/xds -> envoy-types",
        ];
        assert_eq!(found.len(), starts.len(), "{found:?}");
        for (breach, start) in found.iter().zip(starts) {
            assert!(breach.trim_start().starts_with(start), "{breach}");
        }
    }

    #[test]
    fn a_folder_whose_name_only_begins_alike_is_not_within() {
        assert!(within("core/envoy", "core"));
        assert!(within("core", "core"));
        assert!(!within("core-extras", "core"));
    }

    #[test]
    fn test_dependencies_do_not_count() {
        let metadata = br#"{"workspace_root": "/w", "packages": [{"name": "a", "manifest_path": "/w/x/a/Cargo.toml",
            "dependencies": [{"name": "n", "kind": null}, {"name": "d", "kind": "dev"}, {"name": "b", "kind": "build"}]}]}"#;
        let expected =
            Member { name: "a".into(), folder: "x/a".into(), uses: ["b", "n"].map(str::to_owned).into() };
        assert_eq!(members(metadata).unwrap(), [expected]);
    }
}
