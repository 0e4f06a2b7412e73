//! The authority of a mesh is replaced while traffic flows.

use ursa_e2e::kind::{SOON, SYSTEM, apply, kubectl};
use ursa_e2e::{corp_root, eventually};

use super::world::{WEST, World, refusal};

/// The authority that meshes of the tests begin with.
pub(super) const BUILTIN: &str = "{name: ca, type: Builtin}";

/// A part of the company's root, as a Secret of the test's mesh.
fn secret(mesh: &str, part: &str, value: &str) -> String {
    let data = serde_json::json!({ "value": value });
    format!(
        "{{apiVersion: v1, kind: Secret, type: ursamesh.io/secret, metadata: {{name: {mesh}-{part}, namespace: {SYSTEM}, \
         labels: {{ursamesh.io/mesh: {mesh}}}}}, stringData: {data}}}"
    )
}

/// All of it.
pub(super) fn secrets(mesh: &str) -> anyhow::Result<String> {
    let (certificate, key) = corp_root()?;
    Ok(format!("{}\n---\n{}", secret(mesh, "cert", &certificate), secret(mesh, "key", &key)))
}

/// The backend that comes from it.
pub(super) fn corp(mesh: &str) -> String {
    format!(
        "{{name: corp, type: Provided, conf: {{cert: {{secret: {mesh}-cert}}, key: {{secret: {mesh}-key}}}}}}"
    )
}

/// A mesh with these backends.
pub(super) fn spec(enabled: &str, backends: &[&str]) -> String {
    format!("mtls: {{enabledBackend: {enabled}, mode: Strict, backends: [{}]}}", backends.join(", "))
}

/// The mesh is taken so, once nothing is in the way.
pub(super) async fn taken(world: &World, what: &str, spec: &str) -> anyhow::Result<()> {
    eventually(what, SOON * 2, async || world.at_global(world.kind.mesh(spec)).await).await
}

/// From the builtin authority to a company's own, step by step by kubectl; no step can be skipped.
async fn a_company_brings_its_root(world: &World) -> anyhow::Result<()> {
    let kind = &world.kind;
    let mesh = &kind.name;
    let corp = corp(mesh);
    let both = [BUILTIN, corp.as_str()];
    let refused = async |spec: &str, reason: &str| {
        let said = world.at_global(refusal(kind.mesh(spec))).await?;
        anyhow::ensure!(said.contains(reason), "{reason:?} in {said}");
        Ok(())
    };
    refused(&spec("ca", &both), "there is no secret").await?;
    world.at_global(apply(&secrets(mesh)?)).await?;
    refused(&spec("corp", &both), "not known in zone east, west").await?;
    world.at_global(kind.mesh(&spec("ca", &both))).await?;
    taken(world, "every proxy trusts the new root", &spec("corp", &both)).await?;
    let said = world.at_global(refusal(apply(&secret(mesh, "key", "another")))).await?;
    anyhow::ensure!(said.contains("in use by backend corp"), "{said}");
    let remove = ["--namespace", SYSTEM, "delete", "secret", &format!("{mesh}-cert")];
    let said = world.at_global(refusal(kubectl(&remove))).await?;
    anyhow::ensure!(said.contains("in use by backend corp"), "{said}");
    world.wait(&format!("mesh/{mesh}"), "Rotated", "60s").await?;
    taken(world, "nobody holds a certificate of the old root", &spec("corp", &[&corp])).await?;
    world.wait(&format!("mesh/{mesh}"), "Programmed", "60s").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_is_replaced_under_load() -> anyhow::Result<()> {
    let world = World::start("rotation").await?;
    let result = async {
        let kind = &world.kind;
        world.populate(WEST, "far").await?;
        world.at_global(kind.permit("all", "*", "*")).await?;
        let far = format!("http://{}.mesh/", kind.service("far"));
        let web = format!("http://{}.mesh/", kind.service("web"));
        world.in_east(kind.answered("client", &far)).await?;
        world.in_zone(WEST, kind.answered("client", &web)).await?;
        let there = world.in_east(kind.load("client", &far)).await?;
        let back = world.in_zone(WEST, kind.load("client", &web)).await?;
        a_company_brings_its_root(&world).await?;
        there.answered_all().await?;
        back.answered_all().await?;
        world.at_global(kind.delete_policy("trafficpermission", "all")).await
    }
    .await;
    world.end(result).await
}
