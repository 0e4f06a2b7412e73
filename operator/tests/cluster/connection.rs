//! Of two who write the status of a ControlPlane, none takes anything from the other.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use ursa_crds::ControlPlane;

use super::world::{SOON, World, becomes, eventually};
use super::{condition, control_plane};

#[tokio::test(flavor = "multi_thread")]
async fn whether_a_zone_is_connected_is_its_control_plane_s_to_say() {
    let world = World::new("zone").await;
    let _operator = world.operator("one").await;
    let planes = world.api::<ControlPlane>();
    let mut plane = control_plane("mesh");
    let spec = json!({"mode": "Zone", "imagePullPolicy": "Never", "zone": {
        "name": "east", "globalAddress": "https://global.invalid:5685", "credentialSecretRef": {"name": "zone-east"},
    }});
    plane.spec = serde_json::from_value(spec).unwrap();
    planes.create(&PostParams::default(), &plane).await.unwrap();
    let says = |status: &'static str, reason: &'static str| {
        move |plane: &ControlPlane| condition(plane, "ConnectedToGlobal") == Some((status, reason))
    };
    let unavailable = says("Unknown", "ControlPlaneUnavailable");
    becomes(&planes, "mesh", "nobody is there to say", unavailable).await;

    // A replica leads, and tells.
    let now = || MicroTime(jiff::Timestamp::now());
    let lease = json!({"metadata": {"name": "ursa-cp"}, "spec": {
        "holderIdentity": "mesh-cp-0", "leaseDurationSeconds": 15, "renewTime": now(),
    }});
    let leases = world.api::<Lease>();
    leases.create(&PostParams::default(), &serde_json::from_value(lease).unwrap()).await.unwrap();
    let told = json!({
        "apiVersion": "ursamesh.io/v1alpha1", "kind": "ControlPlane", "metadata": {"name": "mesh"},
        "status": {"conditions": [{
            "type": "ConnectedToGlobal", "status": "True", "reason": "Connected", "message": "connected",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]},
    });
    let params = PatchParams::apply("ursa-cp").force();
    planes.patch_status("mesh", &params, &Patch::Apply(told)).await.unwrap();
    // The operator's own conditions do not take it away, nor does it take it over.
    let change = Patch::Merge(json!({"spec": {"logLevel": "debug"}}));
    let changed = planes.patch("mesh", &PatchParams::default(), &change).await.unwrap();
    let seen = becomes(&planes, "mesh", "is acted on", |plane| {
        plane.status.as_ref().is_some_and(|status| status.observed_generation == changed.metadata.generation)
    })
    .await;
    assert!(says("True", "Connected")(&seen), "{:?}", seen.status);
    assert!(condition(&seen, "Ready").is_some());
    let theirs = seen.managed_fields().iter().filter(|entry| {
        let fields = serde_json::to_string(&entry.fields_v1).unwrap_or_default();
        fields.contains("ConnectedToGlobal")
    });
    assert_eq!(theirs.filter_map(|entry| entry.manager.as_deref()).collect::<Vec<_>>(), ["ursa-cp"]);

    // Nobody leads any more, and no replica serves.
    leases.delete("ursa-cp", &DeleteParams::default()).await.unwrap();
    becomes(&planes, "mesh", "nobody is there to say", says("Unknown", "ControlPlaneUnavailable")).await;
    planes.delete("mesh", &DeleteParams::default()).await.unwrap();
    eventually("it is gone", SOON, async || planes.get_opt("mesh").await.unwrap().is_none().then_some(()))
        .await;
    world.end().await;
}
