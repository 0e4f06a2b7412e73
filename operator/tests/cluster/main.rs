//! The real operator against a real API server: the cluster that `KUBECONFIG` names. Its pods have no image; they need none.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod connection;
mod ingress;
mod world;

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use ursa_crds::ControlPlane;
use world::{SOON, World, becomes, eventually};

fn control_plane(name: &str) -> ControlPlane {
    let value = json!({
        "apiVersion": "ursamesh.io/v1alpha1", "kind": "ControlPlane", "metadata": {"name": name},
        "spec": {"imagePullPolicy": "Never"},
    });
    serde_json::from_value(value).unwrap()
}

/// What there is to be of a ControlPlane whose webhook does not serve yet.
fn expected(namespace: &str, name: &str) -> Vec<(&'static str, String)> {
    let parts = [format!("{name}-cp"), format!("{name}-webhook")];
    let mut all = vec![
        ("Secret", format!("{name}-ca")),
        ("ConfigMap", format!("{name}-sidecar")),
        ("Service", name.to_owned()),
        ("Service", parts[1].clone()),
        ("Role", parts[0].clone()),
        ("RoleBinding", parts[0].clone()),
    ];
    for part in parts {
        all.push(("Secret", format!("{part}-tls")));
        for kind in ["ServiceAccount", "Deployment", "PodDisruptionBudget", "NetworkPolicy"] {
            all.push((kind, part.clone()));
        }
    }
    for program in ["ursa-cp", "ursa-webhook"] {
        for kind in ["ClusterRole", "ClusterRoleBinding"] {
            all.push((kind, format!("{namespace}.{name}.{program}")));
        }
    }
    all
}

fn condition<'a>(object: &'a ControlPlane, name: &str) -> Option<(&'a str, &'a str)> {
    let conditions = &object.status.as_ref()?.conditions;
    let found = conditions.iter().find(|condition| condition.type_ == name)?;
    Some((&found.status, &found.reason))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_comes_is_kept_and_goes_with_nothing_else() {
    let world = World::new("life").await;
    let _operator = world.operator("one").await;
    let planes = world.api::<ControlPlane>();
    planes.create(&PostParams::default(), &control_plane("mesh")).await.unwrap();
    for (kind, name) in expected(&world.namespace, "mesh") {
        becomes(&world.dynamic(kind), &name, "is there", |_| true).await;
    }
    // Pod Security restricts the namespace: these are taken all the same.
    eventually("two pods of each part", SOON, async || {
        let pods = world.api::<Pod>().list(&ListParams::default()).await.unwrap();
        (pods.items.len() == 4).then_some(())
    })
    .await;
    is_told(&world).await;
    sidecars_trust_what_the_control_plane_shows(&world).await;
    drift_is_repaired(&world).await;

    pods_without_a_sidecar_are_told(&world).await;

    // Of another one, with names alike.
    let bystander: ClusterRole =
        serde_json::from_value(json!({"metadata": {"name": format!("{}.mesh.other", world.namespace)}}))
            .unwrap();
    let roles = Api::<ClusterRole>::all(world.client.clone());
    roles.create(&PostParams::default(), &bystander).await.unwrap();
    planes.create(&PostParams::default(), &control_plane("mesh-two")).await.unwrap();
    becomes(&world.dynamic("Deployment"), "mesh-two-webhook", "is there", |_| true).await;
    planes.delete("mesh", &DeleteParams::default()).await.unwrap();
    for (kind, name) in expected(&world.namespace, "mesh") {
        let api = world.dynamic(kind);
        eventually(&format!("{kind} {name} is gone"), SOON * 3, async || {
            api.get_opt(&name).await.unwrap().is_none().then_some(())
        })
        .await;
    }
    assert!(planes.get_opt("mesh").await.unwrap().is_none());
    for (kind, name) in expected(&world.namespace, "mesh-two") {
        assert!(world.dynamic(kind).get_opt(&name).await.unwrap().is_some(), "{kind} {name}");
    }
    roles.delete(&bystander.name_any(), &DeleteParams::default()).await.expect("it is there");
    planes.delete("mesh-two", &DeleteParams::default()).await.unwrap();
    eventually("mesh-two is gone", SOON, async || {
        planes.get_opt("mesh-two").await.unwrap().is_none().then_some(())
    })
    .await;
    world.end().await;
}

/// Conditions, columns and events.
async fn is_told(world: &World) {
    let planes = world.api::<ControlPlane>();
    let told = becomes(&planes, "mesh", "is told", |plane| condition(plane, "Degraded").is_some()).await;
    assert_eq!(condition(&told, "Ready"), Some(("False", "ControlPlaneUnavailable")));
    assert_eq!(condition(&told, "Progressing"), Some(("True", "RollingOut")));
    assert_eq!(condition(&told, "Degraded"), Some(("False", "AsExpected")));
    let status = told.status.unwrap();
    assert_eq!(
        (status.observed_generation, status.version.as_deref()),
        (told.metadata.generation, Some("9.9.9"))
    );

    let request = http::Request::get(format!("{}/mesh", planes.resource_url()))
        .header("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")
        .body(Vec::new())
        .unwrap();
    let table: Value = world.client.request(request).await.unwrap();
    for cell in table["rows"][0]["cells"].as_array().unwrap() {
        assert!(!cell.is_null() && cell != "" && cell != "<unknown>", "{table:#}");
    }
    eventually("an event", SOON, async || {
        let events = world.api::<Event>().list(&ListParams::default()).await.unwrap();
        events.items.into_iter().find(|event| event.reason.as_deref() == Some("RollingOut"))
    })
    .await;
    // The API server asks no webhook that does not serve.
    let configuration = format!("{}.mesh.injection", world.namespace);
    assert!(world.dynamic("MutatingWebhookConfiguration").get_opt(&configuration).await.unwrap().is_none());
}

async fn sidecars_trust_what_the_control_plane_shows(world: &World) {
    let secret = world.api::<Secret>().get("mesh-cp-tls").await.unwrap();
    let text = |key: &str| String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap();
    let settings = world.api::<ConfigMap>().get("mesh-sidecar").await.unwrap();
    let settings: ursa_inject::Settings =
        serde_saphyr::from_str(&settings.data.unwrap()["settings.yaml"]).unwrap();
    settings.check().unwrap();
    assert_eq!(settings.control_plane.ca_pem, text("ca.crt"));
    assert_eq!(settings.control_plane.address, format!("https://mesh.{}.svc:5678", world.namespace));
    assert_eq!(settings.image, "ursa.invalid/ursa-dp:9.9.9");
    let parse = |pem: String| x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap().1;
    let (leaf, authority) = (parse(text("tls.crt")), parse(text("ca.crt")));
    let (leaf, authority) = (leaf.parse_x509().unwrap(), authority.parse_x509().unwrap());
    leaf.verify_signature(Some(authority.public_key())).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(format!("{names:?}").contains(&format!("mesh.{}.svc\"", world.namespace)));
}

/// What others change in fields of ours is undone; what they add stays.
async fn drift_is_repaired(world: &World) {
    let merge = |patch: Value| Patch::Merge(patch);
    let params = PatchParams::default();
    let deployments = world.api::<Deployment>();
    let change = json!({"metadata": {"annotations": {"team": "blue"}}, "spec": {"replicas": 5}});
    deployments.patch("mesh-cp", &params, &merge(change)).await.unwrap();
    let repaired = becomes(&deployments, "mesh-cp", "two replicas again", |found| {
        found.spec.as_ref().and_then(|spec| spec.replicas) == Some(2)
    })
    .await;
    assert_eq!(repaired.annotations().get("team").map(String::as_str), Some("blue"));

    let services = world.api::<Service>();
    let before = services.get("mesh").await.unwrap().uid();
    services.delete("mesh", &DeleteParams::default()).await.unwrap();
    becomes(&services, "mesh", "is there again", |found| found.uid() != before).await;

    let roles = Api::<ClusterRole>::all(world.client.clone());
    let role = format!("{}.mesh.ursa-cp", world.namespace);
    roles.patch(&role, &params, &merge(json!({"rules": []}))).await.unwrap();
    becomes(&roles, &role, "has its rules again", |found| found.rules.iter().flatten().count() > 0).await;

    let secrets = world.api::<Secret>();
    let broken = json!({"data": {"tls.key": "YnJva2Vu"}});
    secrets.patch("mesh-webhook-tls", &params, &merge(broken)).await.unwrap();
    // A new one, or the old one if a reconciliation was under way.
    becomes(&secrets, "mesh-webhook-tls", "has a key again", |found| {
        let key = found.data.as_ref().and_then(|data| data.get("tls.key"));
        key.is_some_and(|key| key.0.starts_with(b"-----BEGIN"))
    })
    .await;
}

/// A pod that was there before its namespace asked for sidecars.
async fn pods_without_a_sidecar_are_told(world: &World) {
    let namespaces = Api::<Namespace>::all(world.client.clone());
    let object = serde_json::from_value(json!({"metadata": {"generateName": "operator-shop-"}})).unwrap();
    let shop = namespaces.create(&PostParams::default(), &object).await.unwrap().name_any();
    let pods = Api::<Pod>::namespaced(world.client.clone(), &shop);
    let container = json!({"name": "app", "image": "app.invalid/app", "imagePullPolicy": "Never"});
    let pod = json!({"metadata": {"name": "app"}, "spec": {
        "containers": [container], "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
    }});
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let label = async |value: Value| {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"ursamesh.io/sidecar-injection": value}}}));
        namespaces.patch(&shop, &PatchParams::default(), &patch).await.unwrap();
    };
    let has = |status: &'static str| {
        move |pod: &Pod| {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions
                .into_iter()
                .any(|found| found.type_ == "ursamesh.io/InjectionMissing" && found.status == status)
        }
    };
    label(json!("enabled")).await;
    let labelled = Instant::now();
    becomes(&pods, "app", "is told that its sidecar is missing", has("True")).await;
    assert!(labelled.elapsed() < Duration::from_secs(10), "{:?}", labelled.elapsed());
    let events = Api::<Event>::namespaced(world.client.clone(), &shop);
    eventually("an event", SOON, async || {
        let events = events.list(&ListParams::default()).await.unwrap();
        events.items.into_iter().find(|event| event.reason.as_deref() == Some("InjectionMissing"))
    })
    .await;
    label(Value::Null).await;
    becomes(&pods, "app", "is told that nothing is missing", has("False")).await;
    namespaces.delete(&shop, &DeleteParams::background()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_someone_else_is_left_alone_and_said() {
    let world = World::new("taken").await;
    let mut operator = world.operator("one").await;
    let theirs = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mesh-sidecar"}, "data": {"theirs": "yes"},
    });
    world.apply(&theirs).await.unwrap();
    let planes = world.api::<ControlPlane>();
    planes.create(&PostParams::default(), &control_plane("mesh")).await.unwrap();
    becomes(&planes, "mesh", "is degraded", |plane| {
        condition(plane, "Degraded") == Some(("True", "NameTaken"))
    })
    .await;
    let found = world.api::<ConfigMap>().get("mesh-sidecar").await.unwrap();
    assert_eq!(
        found.data.unwrap().into_iter().collect::<Vec<_>>(),
        [("theirs".to_owned(), "yes".to_owned())]
    );

    // Another operator stands by, and goes on where the first left off.
    let second = world.operator("two").await;
    let leases = world.api::<Lease>();
    let holder = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
    assert_eq!(holder(&leases.get("ursa-operator").await.unwrap()).as_deref(), Some("one"));
    operator.terminate();
    becomes(&leases, "ursa-operator", "the second one leads", |lease| {
        holder(lease).as_deref() == Some("two")
    })
    .await;
    world.api::<ConfigMap>().delete("mesh-sidecar", &DeleteParams::default()).await.unwrap();
    becomes(&planes, "mesh", "is not degraded", |plane| {
        condition(plane, "Degraded") == Some(("False", "AsExpected"))
    })
    .await;
    let metrics = second.get("/metrics").await.unwrap();
    assert!(metrics.contains("ursa_operator_leader 1"), "{metrics}");

    // While no operator is there, it waits; with one, it goes.
    drop(second);
    planes.delete("mesh", &DeleteParams::default()).await.unwrap();
    assert!(planes.get_opt("mesh").await.unwrap().is_some());
    // What was left of one that was removed by force goes as well.
    let left = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "rules": [],
        "metadata": {"name": format!("{}.forced.ursa-cp", world.namespace), "labels": {
            "app.kubernetes.io/managed-by": "ursa-operator",
            "ursamesh.io/control-plane": format!("{}.forced", world.namespace),
        }},
    });
    world.apply(&left).await.unwrap();
    let _third = world.operator("two").await;
    let roles = world.dynamic("ClusterRole");
    eventually("what was left is gone", SOON, async || {
        roles.get_opt(left["metadata"]["name"].as_str().unwrap()).await.unwrap().is_none().then_some(())
    })
    .await;
    eventually("it is gone", SOON, async || planes.get_opt("mesh").await.unwrap().is_none().then_some(()))
        .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_is_to_ask_compiles_there() {
    let world = World::new("webhooks").await;
    for case in ["standalone-serving", "global", "webhook-lost", "cert-manager-issued"] {
        let path = format!("{}/testdata/control_plane/{case}.out.yaml", env!("CARGO_MANIFEST_DIR"));
        let documents = ursa_crds::parse_documents(&std::fs::read(path).unwrap()).unwrap();
        let of_kind = |document: &&Value| {
            document["kind"].as_str().is_some_and(|kind| kind.ends_with("WebhookConfiguration"))
        };
        let found: Vec<&Value> = documents.iter().filter(of_kind).collect();
        assert!(!found.is_empty(), "{case}");
        for document in found {
            let mut document = document.clone();
            document["metadata"]["name"] = json!(format!("{}.{case}", world.namespace));
            let name = document["metadata"]["name"].as_str().unwrap();
            let api = world.dynamic(document["kind"].as_str().unwrap());
            let params = PatchParams::apply("administrator").dry_run();
            api.patch(name, &params, &Patch::Apply(&document)).await.unwrap();
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_is_taken_and_what_is_invalid_is_refused_with_the_reason() {
    let world = World::new("samples").await;
    let planes = world.api::<ControlPlane>();
    let file =
        |path: &str| std::fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let create = async |document: &Value| {
        let mut document = document.clone();
        document["metadata"]["namespace"] = json!(world.namespace);
        planes.create(&PostParams::default(), &serde_json::from_value(document).unwrap()).await
    };
    let sample = ursa_crds::parse_documents(file("config/samples/controlplane.yaml").as_bytes()).unwrap();
    let created = create(&sample[0]).await.unwrap();
    for (change, reason) in [
        (json!({"spec": {"mode": "Global"}}), "mode cannot be changed"),
        (json!({"spec": {"zone": {"name": "other"}}}), "zone.name cannot be changed"),
    ] {
        let error = planes
            .patch(&created.name_any(), &PatchParams::default(), &Patch::Merge(change))
            .await
            .unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    for document in file("e2e/tests/invalid/controlplane.yaml").split("---\n") {
        let reason = document.lines().next().and_then(|line| line.strip_prefix("# refused: ")).unwrap();
        let value = ursa_crds::parse_documents(document.as_bytes()).unwrap().remove(0);
        let name = value["metadata"]["name"].clone();
        let error = create(&value).await.map(drop).unwrap_err();
        assert!(error.to_string().contains(reason), "{name}: {reason}: {error}");
    }
    world.end().await;
}
