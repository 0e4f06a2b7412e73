//! ZoneIngresses: nothing is made without a control plane, and what a load balancer says is found.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use ursa_crds::{ControlPlane, ZoneIngress};

use crate::control_plane;
use crate::world::{SOON, World, becomes, eventually};

fn ingress(name: &str) -> ZoneIngress {
    let value = json!({
        "apiVersion": "ursamesh.io/v1alpha1", "kind": "ZoneIngress", "metadata": {"name": name},
        "spec": {"controlPlaneRef": {"name": "mesh"}},
    });
    serde_json::from_value(value).unwrap()
}

fn is(object: &ZoneIngress, name: &str, status: &str, reason: &str) -> bool {
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    conditions
        .into_iter()
        .any(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str()) == (name, status, reason))
}

fn address(object: &ZoneIngress) -> Option<&str> {
    object.status.as_ref()?.address.as_deref()
}

/// What the cloud does.
async fn balance(world: &World, entry: Value) {
    let status = json!({"status": {"loadBalancer": {"ingress": [entry]}}});
    let services = world.api::<Service>();
    services.patch_status("in-proxy", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_waits_for_its_control_plane_and_is_reached_where_its_load_balancer_is() {
    let world = World::new("ingress").await;
    let _operator = world.operator("one").await;
    let ingresses = world.api::<ZoneIngress>();
    ingresses.create(&PostParams::default(), &ingress("in")).await.unwrap();
    let told = |name, status, reason| move |found: &ZoneIngress| is(found, name, status, reason);
    becomes(&ingresses, "in", "has no control plane", told("Ready", "False", "ControlPlaneNotFound")).await;
    assert!(world.api::<Deployment>().get_opt("in-proxy").await.unwrap().is_none());

    let planes = world.api::<ControlPlane>();
    planes.create(&PostParams::default(), &control_plane("mesh")).await.unwrap();
    becomes(&ingresses, "in", "waits", told("Advertised", "False", "WaitingForLoadBalancer")).await;
    let deployment = becomes(&world.api::<Deployment>(), "in-proxy", "is there", |_| true).await;
    let pod = deployment.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.containers[0].image.as_deref(), Some("ursa.invalid/ursa-dp:9.9.9"));
    balance(&world, json!({"hostname": "lb.example.com"})).await;
    let found = becomes(&ingresses, "in", "has a name", told("Advertised", "False", "HostnameOnly")).await;
    assert_eq!(address(&found), None);
    balance(&world, json!({"ip": "203.0.113.7"})).await;
    let found = becomes(&ingresses, "in", "is reached", told("Advertised", "True", "LoadBalancer")).await;
    assert_eq!(address(&found), Some("203.0.113.7"));
    // What the control plane tells is not the operator's to change.
    let services = json!({
        "apiVersion": "ursamesh.io/v1alpha1", "kind": "ZoneIngress", "metadata": {"name": "in"}, "status": {"services": 3},
    });
    ingresses.patch_status("in", &PatchParams::apply("ursa-cp"), &Patch::Apply(services)).await.unwrap();

    // The Service goes, and the load balancer with it; others are not told so before there is another.
    let before = world.api::<Service>().get("in-proxy").await.unwrap().uid();
    world.api::<Service>().delete("in-proxy", &DeleteParams::default()).await.unwrap();
    becomes(&world.api::<Service>(), "in-proxy", "is made anew", |found| found.uid() != before).await;
    let found =
        becomes(&ingresses, "in", "waits", told("Advertised", "False", "WaitingForLoadBalancer")).await;
    assert_eq!(address(&found), Some("203.0.113.7"));
    assert_eq!(found.status.unwrap().services, Some(3));
    balance(&world, json!({"ip": "203.0.113.8"})).await;
    becomes(&ingresses, "in", "is reached", |found| address(found) == Some("203.0.113.8")).await;
    eventually("an event", SOON, async || {
        let events = world.api::<Event>().list(&ListParams::default()).await.unwrap();
        events.into_iter().find(|event| event.reason.as_deref() == Some("LoadBalancer")).map(drop)
    })
    .await;

    // What belongs to somebody else is left alone.
    let service = json!({"metadata": {"name": "taken-proxy"}, "spec": {"ports": [{"port": 1}]}});
    let service: Service = serde_json::from_value(service).unwrap();
    world.api::<Service>().create(&PostParams::default(), &service).await.unwrap();
    ingresses.create(&PostParams::default(), &ingress("taken")).await.unwrap();
    becomes(&ingresses, "taken", "cannot be", told("Degraded", "True", "NameTaken")).await;
    assert!(world.api::<Deployment>().get_opt("taken-proxy").await.unwrap().is_none());

    ingresses.delete("in", &DeleteParams::default()).await.unwrap();
    for kind in ["ServiceAccount", "Service", "Deployment", "PodDisruptionBudget", "NetworkPolicy"] {
        eventually(&format!("{kind} is gone"), SOON * 3, async || {
            world.dynamic(kind).get_opt("in-proxy").await.unwrap().is_none().then_some(())
        })
        .await;
    }
    planes.delete("mesh", &DeleteParams::default()).await.unwrap();
    eventually("the ControlPlane is gone", SOON, async || {
        planes.get_opt("mesh").await.unwrap().is_none().then_some(())
    })
    .await;
    world.end().await;
}
