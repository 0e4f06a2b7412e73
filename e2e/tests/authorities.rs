//! Certificate authorities that change while traffic flows, and roots that users provide.

use std::time::Duration;

use ursa_e2e::{Load, MTLS, Multizone, Peer, ZONES, corp_root, eventually, secret};

const SOON: Duration = Duration::from_secs(10);

fn mesh(enabled: &str, backends: &[&str]) -> String {
    let header = MTLS.split("spec:").next().unwrap_or_default();
    format!("{header}spec: {{mtls: {{enabledBackend: {enabled}, backends: [{}]}}}}\n", backends.join(", "))
}

const BUILTIN: &str = "{name: ca-1, type: Builtin}";
const CORP: &str = "{name: corp, type: Provided, conf: {cert: {secret: corp-cert}, key: {secret: corp-key}}}";

#[tokio::test(flavor = "multi_thread")]
async fn a_provided_root_takes_over_without_a_failed_request() -> anyhow::Result<()> {
    let mesh_of = Multizone::start("authorities-provided").await?;
    mesh_of.open().await?;
    let api = mesh_of.global.api()?;
    let load = Load::start(mesh_of.zones.iter().map(|zone| zone.outbound));

    let (certificate, key) = corp_root()?;
    api.apply(&secret("corp-cert", &certificate)).await?;
    api.apply(&secret("corp-key", &key)).await?;
    let at_once = api.apply(&mesh("corp", &[BUILTIN, CORP])).await.map_err(|error| error.to_string());
    assert!(at_once.as_ref().is_err_and(|e| e.contains("not known in zone aws, east, west")), "{at_once:?}");
    api.apply(&mesh("ca-1", &[BUILTIN, CORP])).await?;
    eventually("every zone has an intermediate", SOON, async || {
        api.apply(&mesh("corp", &[BUILTIN, CORP])).await
    })
    .await?;
    let early = api.apply(&mesh("corp", &[CORP])).await.map_err(|error| error.to_string());
    assert!(early.as_ref().is_err_and(|e| e.contains("hold one of ca-1")), "{early:?}");
    eventually("nobody holds a certificate of the old root", SOON, async || {
        api.apply(&mesh("corp", &[CORP])).await
    })
    .await?;
    let id = |zone: &str| format!("spiffe://{zone}.default.ursa/service/client/ns/-/tags/-/proxy/thief");
    let west = &mesh_of.zones[2];
    let old = Peer::forge(&west.stolen("ca/default/ca-1")?, &id("west"))?;
    for zone in &mesh_of.zones {
        eventually(&format!("{} refuses the old root", zone.name), SOON, async || {
            let heard = old.hears(zone.inbound, b"").await?;
            anyhow::ensure!(heard.is_empty(), "{heard}");
            Ok(())
        })
        .await?;
    }
    mesh_of.each_reaches(&ZONES).await?;
    println!("{} requests on the way, none failed", load.stop().await?);

    // The key of west's intermediate signs for west, and for nobody else.
    let stolen = west.stolen("ca/default/corp/intermediate")?;
    let (rightful, forged) = (Peer::forge(&stolen, &id("west"))?, Peer::forge(&stolen, &id("east"))?);
    for zone in &mesh_of.zones {
        assert_eq!(rightful.hears(zone.inbound, b"").await?, format!("{}\n", zone.name), "{}", zone.name);
        assert_eq!(forged.hears(zone.inbound, b"").await?, "", "{} lets in a forged identity", zone.name);
        // The root's key stays at global.
        let kept = std::fs::read(zone.plane.data.join("store.redb"))?;
        let secret_lines = key.lines().nth(1).unwrap_or_default().as_bytes().to_vec();
        assert!(!kept.windows(secret_lines.len()).any(|window| window == secret_lines), "{}", zone.name);
    }
    Ok(())
}
