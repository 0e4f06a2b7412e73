//! A global control plane on Kubernetes that is lost with all that it had, and comes back from its backup, while its zones are
//! under load.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;
use ursa_e2e::kind::{SYSTEM, apply, kubectl};
use ursa_e2e::links::{self, Cut};
use ursa_e2e::zones::{Global, connected};

use super::faults::{answered_all, comes_back, guest_calls, held_by, is_unknown, load, populate, server};
use super::rotation::{BUILTIN, corp, secrets, spec, taken};
use super::world::{EAST, WEST, World};

const ZONES: [&str; 2] = [EAST, WEST];
/// How long Kubernetes may take to delete something.
const DELETED: &str = "--timeout=90s";

/// What global comes back from.
struct Backup {
    folder: TempDir,
    /// Whether global is not what it was.
    is_needed: Cell<bool>,
}

impl Backup {
    async fn take(&self, global: &Global) -> anyhow::Result<()> {
        print!("{}", global.ursactl(&["backup", "--file", &self.file()]).await?);
        Ok(())
    }

    fn file(&self) -> String {
        self.folder.path().join("global.ursa").display().to_string()
    }

    async fn restore(&self, fresh: &Global) -> anyhow::Result<()> {
        let begun = Instant::now();
        print!("{}", fresh.ursactl(&["restore", "--file", &self.file()]).await?);
        self.is_needed.set(false);
        println!("figure: ursactl restore: {:.1?}", begun.elapsed());
        Ok(())
    }
}

/// `kubectl` where Ursa is.
async fn in_system(arguments: &[&str]) -> anyhow::Result<String> {
    kubectl(&[&["--namespace", SYSTEM], arguments].concat()).await
}

/// Everything of global goes from its cluster, as if that were a new one.
async fn lose_global(world: &World) -> anyhow::Result<()> {
    world
        .at_global(async {
            // Its processes before what they would tell zones of, and first of them the one that would start the others again.
            for parts in [&["ursa-operator"][..], &["ursa-cp", "ursa-webhook"]] {
                let how = ["--cascade=foreground", "--ignore-not-found", DELETED];
                in_system(&[&["delete", "deployment"], parts, &how].concat()).await?;
            }
            let all = kubectl(&["get", "customresourcedefinitions", "--output", "name"]).await?;
            let ours: Vec<&str> = all.lines().filter(|name| name.ends_with(".ursamesh.io")).collect();
            if ours.iter().any(|name| name.contains("/controlplanes.")) {
                // The operator would take its finalizer away.
                let planes = in_system(&["get", "controlplanes", "--output", "name"]).await?;
                for plane in planes.lines() {
                    let patch = ["--type", "merge", "--patch", r#"{"metadata": {"finalizers": null}}"#];
                    in_system(&[&["patch", plane], &patch[..]].concat()).await?;
                }
            }
            let kinds = "validatingwebhookconfigurations,clusterroles,clusterrolebindings";
            let of_the_cluster = ["delete", kinds, "--selector", "app.kubernetes.io/part-of=ursa", DELETED];
            // With the definitions goes what is defined by them.
            let definitions = [&["delete", "--ignore-not-found", DELETED], &ours[..]].concat();
            let namespace = ["delete", "namespace", SYSTEM, "--ignore-not-found", DELETED];
            let definitions =
                async { if ours.is_empty() { Ok(String::new()) } else { kubectl(&definitions).await } };
            tokio::try_join!(kubectl(&of_the_cluster), definitions, kubectl(&namespace)).map(drop)
        })
        .await
}

/// After a failure: the others are to find global as it was.
async fn bring_back(world: &World, backup: &Backup) -> anyhow::Result<()> {
    if !backup.is_needed.get() {
        return Ok(());
    }
    lose_global(world).await?;
    backup.restore(&world.global.replace().await?).await?;
    for zone in ZONES {
        comes_back(world, zone).await?;
    }
    println!("global is there again, as its backup has it; the evidence is from before");
    Ok(())
}

/// The Secrets by which zones know global, and it knows them.
async fn credentials(world: &World) -> anyhow::Result<String> {
    let mut all = String::new();
    for zone in ZONES {
        let name = format!("zone-{zone}");
        let version = "jsonpath={.metadata.uid} {.metadata.resourceVersion} {.data}\n";
        all += &world.in_zone(zone, in_system(&["get", "secret", &name, "--output", version])).await?;
    }
    Ok(all)
}

/// Guests are kept out of these zones.
async fn guests_are_out(world: &World, zones: &[&str]) -> anyhow::Result<()> {
    for zone in zones {
        anyhow::ensure!(guest_calls(world, zone).await.is_err(), "a guest is answered in {zone}");
    }
    Ok(())
}

/// A policy of global keeps them out of both.
async fn stop_guests(world: &World) -> anyhow::Result<()> {
    let kind = &world.kind;
    world.at_global(kind.judge("stop", "Deny", &kind.service("guest"), "'*'")).await?;
    world.programmed("stop", "60s").await?;
    guests_are_out(world, &ZONES).await
}

/// Zones without global go on, and they do not take for it what is installed in its place.
async fn zones_go_on(world: &World, before: &[BTreeMap<String, String>]) -> anyhow::Result<Global> {
    for zone in ZONES {
        let told = connected(zone, "False").await?;
        anyhow::ensure!(told["reason"] == "Unreachable", "{told}");
    }
    guests_are_out(world, &ZONES).await?;
    let fresh = world.global.replace().await?;
    let zones = fresh.ursactl(&["inspect", "zones", "--output", "json"]).await?;
    let zones: Value = serde_json::from_str(&zones)?;
    anyhow::ensure!(zones["items"] == json!([]), "{zones}");
    let after = held_by(world, &ZONES).await?;
    anyhow::ensure!(before == after, "before: {before:#?}; without global: {after:#?}");
    Ok(fresh)
}

/// One zone comes back by itself, and then the other: what only that one's word can tell, nobody says until then.
async fn zones_come_back(world: &World, backup: &Backup, fresh: &Global) -> anyhow::Result<()> {
    let kind = &world.kind;
    let away = links::cut(WEST, world.global.sync_socket()?, Cut::BothWays).await?;
    backup.restore(fresh).await?;
    let begun = Instant::now();
    // With the token and the authority that the administrator has from before.
    comes_back(world, EAST).await?;
    println!("figure: restored, until a zone is in step: {:.1?}", begun.elapsed());
    connected(EAST, "True").await?;
    world.until_state(WEST, "Stale").await?;
    is_unknown(world, "trafficpermission/all", WEST).await?;
    world.in_east(kind.answered("guest", &format!("http://{}/", server(EAST)))).await?;
    guests_are_out(world, &[WEST]).await?;
    drop(away);
    comes_back(world, WEST).await?;
    world.programmed("all", "60s").await?;
    world.in_zone(WEST, kind.answered("guest", &format!("http://{}/", server(WEST)))).await.map(drop)
}

/// A root that its user brought before the loss signs in both zones.
async fn a_provided_authority_signs(world: &World) -> anyhow::Result<()> {
    let mesh = &world.kind.name;
    let corp = corp(mesh);
    let both = [BUILTIN, corp.as_str()];
    world.at_global(world.kind.mesh(&spec("ca", &both))).await?;
    taken(world, "every proxy trusts the restored root", &spec("corp", &both)).await?;
    world.wait(&format!("mesh/{mesh}"), "Rotated", "60s").await
}

async fn lost_and_restored(world: &World, backup: &Backup) -> anyhow::Result<()> {
    let kind = &world.kind;
    populate(world).await?;
    for zone in ZONES {
        world.until_state(zone, "Online").await?;
    }
    let load = load(world).await?;
    world.at_global(apply(&secrets(&kind.name)?)).await?;
    let kept = held_by(world, &ZONES).await?;
    let credential = credentials(world).await?;
    backup.take(&world.global).await?;
    stop_guests(world).await?;
    let before = held_by(world, &ZONES).await?;

    let begun = Instant::now();
    backup.is_needed.set(true);
    lose_global(world).await?;
    println!("figure: everything of global is deleted: {:.1?}", begun.elapsed());
    let fresh = zones_go_on(world, &before).await?;
    zones_come_back(world, backup, &fresh).await?;
    println!("figure: global begins to go, until both zones are in step: {:.1?}", begun.elapsed());

    let after = held_by(world, &ZONES).await?;
    anyhow::ensure!(kept == after, "at the backup: {kept:#?}; restored: {after:#?}");
    anyhow::ensure!(credentials(world).await? == credential, "a zone has another credential");
    stop_guests(world).await?;
    a_provided_authority_signs(world).await?;
    answered_all(load).await?;
    world
        .at_global(async {
            kubectl(&["delete", "mesh", &kind.name]).await?;
            let secrets = ["cert", "key"].map(|part| format!("secret/{}-{part}", kind.name));
            in_system(&["delete", &secrets[0], &secrets[1]]).await?;
            for policy in ["all", "stop"] {
                kind.delete_policy("trafficpermission", policy).await?;
            }
            Ok(())
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make test-long"]
async fn a_lost_global_is_the_same_again_from_its_backup() -> anyhow::Result<()> {
    let world = World::start("backup").await?;
    let backup = Backup { folder: tempfile::tempdir()?, is_needed: Cell::new(false) };
    let result = lost_and_restored(&world, &backup).await;
    world.end_after(result, async |world| bring_back(world, &backup).await).await
}
