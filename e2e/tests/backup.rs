//! A global control plane that is lost with all that it had, and restored from its backup, while its zones are under load.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Method, StatusCode};
use ursa_crds::{Kind, ObjectKey};
use ursa_e2e::{Api, Load, MTLS, Multizone, ZONES, Zone, corp_root, eventually, permission, refused, secret};

/// Generous: the figures are printed, not judged.
const SOON: Duration = Duration::from_secs(20);
const NOBODY: &str = "ursamesh.io/service: nobody";

/// The zone has exactly these permissions.
async fn follows(zone: &Zone, expected: &[&str]) -> anyhow::Result<()> {
    eventually(&format!("{} has {expected:?}", zone.name), SOON, async || {
        let names = zone.plane.api()?.names("default", "trafficpermissions").await?;
        anyhow::ensure!(names == expected, "{names:?}");
        Ok(())
    })
    .await
}

async fn states(api: &Api) -> anyhow::Result<Vec<(String, String)>> {
    let (_, zones) = api.send(Method::GET, "/zones+state", None).await?;
    let items = zones["items"].as_array().context("no items")?;
    let text = |zone: &serde_json::Value, field: &str| zone[field].as_str().unwrap_or_default().to_owned();
    Ok(items.iter().map(|zone| (text(zone, "name"), text(zone, "state"))).collect())
}

async fn are(api: &Api, state: &str, zones: &[&str]) -> anyhow::Result<()> {
    eventually(&format!("{zones:?} are {state}"), SOON, async || {
        let states = states(api).await?;
        let like = |wanted: &&str| states.iter().any(|(name, now)| name == wanted && now == state);
        anyhow::ensure!(zones.iter().all(like), "{states:?}");
        Ok(())
    })
    .await
}

/// What the talk has, a permission that is to come back, and a root of the user's own as Secrets.
async fn prepare(mesh: &Multizone) -> anyhow::Result<()> {
    mesh.open().await?;
    let api = mesh.global.api()?;
    api.apply(&permission("kept", "Allow", NOBODY)).await?;
    api.apply(&permission("deleted-later", "Allow", NOBODY)).await?;
    let (certificate, key) = corp_root()?;
    for (name, pem) in [("corp-cert", certificate), ("corp-key", key)] {
        api.apply(&secret(name, &pem)).await?;
    }
    Ok(())
}

/// Global and its whole state are gone, but for what its zones and its administrator have of it: a file with its authority, and
/// the token. Another one starts in its place.
async fn lose_global(mesh: &mut Multizone) -> anyhow::Result<std::path::PathBuf> {
    mesh.global.process()?.kill()?;
    let token = mesh.world.path("token-from-before");
    std::fs::rename(mesh.global.data.join("admin-token"), &token)?;
    std::fs::remove_file(mesh.global.data.join("store.redb"))?;
    mesh.global.data = mesh.world.path("cp-global-new");
    mesh.global.start().await?;
    Ok(token)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_global_is_the_same_again_from_its_backup() -> anyhow::Result<()> {
    let mut mesh = Multizone::start("backup").await?;
    prepare(&mesh).await?;
    let backup = mesh.world.path("global.ursa").display().to_string();
    let said = mesh.global.ursactl(&["backup", "--file", &backup])?;
    print!("{said}");
    assert_eq!(std::fs::metadata(&backup)?.permissions().mode() & 0o777, 0o600);
    // Since then two things have changed.
    let api = mesh.global.api()?;
    api.delete(&ObjectKey::in_mesh(Kind::TrafficPermission, "default", "deleted-later")).await?;
    api.apply(&permission("made-later", "Allow", NOBODY)).await?;
    let before = ["allow-all", "kept", "made-later"];
    for zone in &mesh.zones {
        follows(zone, &before).await?;
    }
    let load = Load::start(mesh.zones.iter().map(|zone| zone.outbound));

    let token = lose_global(&mut mesh).await?;
    let fresh = mesh.global.api()?;
    // A zone tries again within seconds; it does not know this one.
    for zone in &mesh.zones {
        let log = mesh.world.logs().join(format!("cp-{}.log", zone.name));
        eventually(&format!("{} does not trust the new global", zone.name), SOON, async || {
            let log = std::fs::read_to_string(&log)?;
            let said = log.rsplit("not connected to global").next().unwrap_or_default();
            anyhow::ensure!(
                log.contains("not connected to global") && said.contains("ertificate"),
                "not yet"
            );
            Ok(())
        })
        .await?;
    }
    assert_eq!(states(&fresh).await?, []);
    mesh.each_reaches(&ZONES).await?;
    for zone in &mesh.zones {
        follows(zone, &before).await?;
    }

    // One zone's control plane is away meanwhile, and its services are called all the same.
    mesh.zones[2].plane.process()?.stop()?;
    let said = mesh.global.ursactl(&["restore", "--file", &backup])?;
    print!("{said}");
    assert!(said.contains("zones that come back by themselves: aws, east, west"), "{said}");
    let (status, _) = eventually("the former key counts", SOON, async || {
        let (status, body) = fresh.send(Method::GET, "/zones", None).await?;
        anyhow::ensure!(status == StatusCode::UNAUTHORIZED, "{status}");
        Ok((status, body))
    })
    .await?;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    // The one of before, and the one that the new control plane has made itself since.
    let address = format!("http://{}", std::net::SocketAddr::new(mesh.global.host, 5681));
    let api = Api::new(&address, &token)?;
    are(&api, "Online", &["aws", "east"]).await?;
    are(&mesh.global.api()?, "Stale", &["west"]).await?;
    let restored = ["allow-all", "deleted-later", "kept"];
    for zone in &mesh.zones[..2] {
        follows(zone, &restored).await?;
    }
    mesh.each_reaches(&ZONES).await?;
    mesh.zones[2].plane.start().await?;
    are(&api, "Online", &ZONES).await?;
    follows(&mesh.zones[2], &restored).await?;

    // Once more, as one does who has not seen the answer: nothing changes.
    let again = backup_again(&mesh, &backup).await?;
    print!("{again}");
    are(&api, "Online", &ZONES).await?;
    api.apply(&permission("new", "Allow", NOBODY)).await?;
    for zone in &mesh.zones {
        follows(zone, &["allow-all", "deleted-later", "kept", "new"]).await?;
    }
    // Keys that users brought are there: with them zones get intermediates.
    let corp = "[{name: ca-1, type: Builtin}, {name: corp, type: Provided, conf: {cert: {secret: corp-cert}, key: {secret: corp-key}}}]";
    let both = MTLS.replace("[{name: ca-1, type: Builtin}]", corp);
    anyhow::ensure!(both != MTLS, "{MTLS}");
    api.apply(&both).await?;
    eventually("every zone has an intermediate", SOON, async || {
        let (_, offers) = api.send(Method::GET, "/meshes/default/meshzones", None).await?;
        let offers = offers["items"].as_array().cloned().unwrap_or_default();
        let have =
            offers.iter().filter(|offer| offer["spec"]["backends"].to_string().contains("corp")).count();
        anyhow::ensure!(have == 3, "{offers:?}");
        Ok(())
    })
    .await?;
    mesh.each_reaches(&ZONES).await?;
    println!("{} calls, and none failed", load.stop().await?);

    // It steers, and a zone's token ends with its zone, as before.
    api.apply(&permission("nobody", "Deny", "ursamesh.io/service: client")).await?;
    for zone in &mesh.zones {
        eventually(&format!("{} is denied", zone.name), SOON, async || refused(zone.outbound).await).await?;
    }
    api.delete(&ObjectKey::zone("west")).await?;
    eventually("the others forget a zone that is deleted", SOON, async || {
        let names = mesh.zones[0].plane.api()?.names("default", "meshzones").await?;
        anyhow::ensure!(names == ["aws", "east"], "{names:?}");
        Ok(())
    })
    .await
}

/// By the administrator's token that the restored control plane has written.
async fn backup_again(mesh: &Multizone, backup: &str) -> anyhow::Result<String> {
    let key = ObjectKey::in_mesh(Kind::TrafficPermission, "default", "kept");
    let api = mesh.global.api()?;
    api.apply(&permission("in-the-way", "Allow", NOBODY)).await?;
    let refused = mesh.global.ursactl(&["restore", "--file", backup]);
    let refused = refused.err().context("what is not empty took a backup")?.to_string();
    anyhow::ensure!(refused.contains("TrafficPermission default/in-the-way"), "{refused}");
    api.delete(&ObjectKey { name: "in-the-way".into(), ..key }).await?;
    mesh.global.ursactl(&["restore", "--file", backup])
}
