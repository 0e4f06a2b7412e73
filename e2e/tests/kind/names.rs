//! Names and addresses: of the mesh, of the cluster, and of neither.

use std::collections::BTreeSet;

use anyhow::Context as _;
use ursa_e2e::eventually;
use ursa_e2e::kind::{Kind, SOON, with};

/// The addresses of a name, as glibc and musl find them.
async fn resolves(kind: &Kind, name: &str) -> anyhow::Result<Vec<String>> {
    let addresses = |said: serde_json::Value| {
        let found = serde_json::from_value::<BTreeSet<String>>(said["addresses"].clone());
        found.with_context(|| said.to_string())
    };
    let glibc = addresses(kind.exec("client", &["resolve", name]).await?)?;
    // No library of the image's is asked: what the program has of musl is in it.
    let musl = addresses(kind.exec_program("client", "resolve-musl", &[name]).await?)?;
    anyhow::ensure!(glibc == musl, "{name}: {glibc:?} by glibc, {musl:?} by musl");
    Ok(glibc.into_iter().collect())
}

/// Whether a connection opens and stays open for a while, or brings something.
async fn reaches(kind: &Kind, address: &str) -> anyhow::Result<bool> {
    let said = kind.exec("client", &["listen", address]).await?;
    Ok(said["connected"] == true && (said["error"] == "nothing more in time" || said["heard"] != ""))
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_the_mesh_are_answered_and_others_passed_on() -> anyhow::Result<()> {
    with("names", async |kind| {
        tokio::try_join!(kind.server("web"), kind.client("client"))?;
        let web = format!("{}.mesh", kind.service("web"));
        let address = eventually("the mesh's name has an address", SOON, async || {
            let found = resolves(kind, &web).await?;
            anyhow::ensure!(found.len() == 1 && found[0].starts_with('2'), "{found:?}");
            Ok(found[0].clone())
        })
        .await?;
        anyhow::ensure!(resolves(kind, &web.to_uppercase()).await? == [address.clone()], "case matters");
        for (name, count) in
            [("web", 1), ("kubernetes.default.svc.cluster.local", 1), ("no-such.mesh", 0), ("no-such", 0)]
        {
            let found = resolves(kind, name).await?;
            anyhow::ensure!(found.len() == count, "{name}: {found:?}");
        }
        kind.answered("client", &format!("http://{web}/")).await?;
        // What stands for a service of the mesh is never passed through, at whatever port.
        for refused in [format!("{address}:81"), "240.0.0.1:80".to_owned()] {
            anyhow::ensure!(!reaches(kind, &refused).await?, "{refused} was reached");
        }
        // The API server is not of the mesh: it waits for its client to begin.
        anyhow::ensure!(reaches(kind, "kubernetes.default:443").await?, "the API server was not reached");
        kind.mesh("networking: {outbound: {passthrough: false}}").await?;
        eventually("what is not of the mesh is refused", SOON, async || {
            anyhow::ensure!(!reaches(kind, "kubernetes.default:443").await?, "it is reached");
            Ok(())
        })
        .await?;
        kind.answered("client", "http://web/").await.map(drop)
    })
    .await
}
