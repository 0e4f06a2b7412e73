//! From objects as the API server gives them to what is said of them.

use serde_json::{Value, json};
use ursa_crds::{DataplaneSpec, Spec};

use super::*;
use crate::facts;

/// A pod of a Deployment `web` with a sidecar.
fn pod(name: &str, address: &str) -> Value {
    json!({
        "metadata": {
            "namespace": "shop", "name": name, "uid": format!("uid-{name}"),
            "labels": {"app": "web", "version": "v1", "pod-template-hash": "abc"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-abc", "uid": "r", "controller": true}],
        },
        "spec": {"containers": [{"name": "app"}], "initContainers": [
            {"name": "ursa-dp", "env": [{"name": "URSA_DP_MESH", "value": "default"}]},
        ]},
        "status": {"phase": "Running", "podIP": address},
    })
}

fn service(name: &str, created: &str, cluster_ip: &str) -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": name, "creationTimestamp": created},
        "spec": {
            "clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "appProtocol": "http"}, {"name": "dns", "port": 53, "protocol": "UDP"}],
        },
    })
}

fn slice(service: &str, pods: &[(&str, &str, bool)]) -> Value {
    let endpoint = |(name, address, ready): &(&str, &str, bool)| json!({"addresses": [address], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "namespace": "shop", "name": name}});
    json!({
        "metadata": {"namespace": "shop", "name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

impl World {
    fn see_pod(&mut self, value: &Value) -> &mut Self {
        let object = serde_json::from_value(value.clone()).unwrap();
        self.pod(name(value), facts::pod(&object));
        self
    }

    fn see_service(&mut self, value: &Value) -> &mut Self {
        let object = serde_json::from_value(value.clone()).unwrap();
        self.service(name(value), facts::service(&object));
        self
    }

    fn see_slice(&mut self, value: &Value) -> &mut Self {
        let object = serde_json::from_value(value.clone()).unwrap();
        self.slice(name(value), facts::slice(&object));
        self
    }
}

fn name(value: &Value) -> Name {
    let part = |key: &str| value["metadata"][key].as_str().unwrap().to_owned();
    Name { namespace: part("namespace"), name: part("name") }
}

/// A Service with one ready pod.
fn web() -> World {
    let mut world = World::default();
    world.see_pod(&pod("web-1", "10.1.0.1")).see_service(&service(
        "web",
        "2026-01-01T00:00:00Z",
        "10.96.0.1",
    ));
    world.see_slice(&slice("web", &[("web-1", "10.1.0.1", true)]));
    world
}

/// The one dataplane that is said.
fn said(news: News) -> DataplaneSpec {
    let [(key, Some(Object { spec: Spec::Dataplane(spec), .. }))] = &news.dataplanes[..] else {
        panic!("one dataplane: {:?}", news.dataplanes);
    };
    assert_eq!(key.mesh, spec.mesh);
    spec.clone()
}

#[test]
fn a_pod_behind_a_service_serves_at_its_own_port_what_the_service_says() {
    let spec = said(web().news());
    let [inbound] = &spec.networking.inbound[..] else { panic!("{spec:?}") };
    assert_eq!((spec.networking.address.to_string().as_str(), inbound.port), ("10.1.0.1", 8080));
    let tags: Vec<_> = inbound.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        tags,
        [
            "app=web",
            "ursamesh.io/namespace=shop",
            "ursamesh.io/port=80",
            "ursamesh.io/protocol=http",
            "ursamesh.io/service=web.shop",
            "ursamesh.io/workload=web",
            "version=v1",
        ]
    );
    let pod = spec.pod.unwrap();
    assert_eq!((pod.service.as_str(), pod.uid.as_str(), pod.unready.len()), ("web.shop", "uid-web-1", 0));
}

#[test]
fn what_means_nothing_to_the_mesh_causes_nothing() {
    let mut world = web();
    world.news();
    let mut pod = pod("web-1", "10.1.0.1");
    pod["metadata"]["annotations"] = json!({"example.com/heartbeat": "2"});
    pod["metadata"]["resourceVersion"] = json!("2");
    pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    let mut service = service("web", "2026-01-01T00:00:00Z", "10.96.0.1");
    service["metadata"]["annotations"] = json!({"a": "b"});
    let mut slice = slice("web", &[("web-1", "10.1.0.1", true)]);
    slice["metadata"]["annotations"] = json!({"endpoints.kubernetes.io/last-change-trigger-time": "now"});
    world.see_pod(&pod).see_service(&service).see_slice(&slice);
    let news = world.news();
    assert!(news.dataplanes.is_empty() && news.addresses.is_none(), "{news:?}");
}

#[test]
fn a_pod_that_is_not_ready_or_told_to_stop_gets_no_traffic() {
    let mut world = web();
    world.news();
    world.see_slice(&slice("web", &[("web-1", "10.1.0.1", false)]));
    assert_eq!(said(world.news()).pod.unwrap().unready, [8080].into());
    world.see_slice(&slice("web", &[("web-1", "10.1.0.1", true)]));
    assert!(said(world.news()).pod.unwrap().unready.is_empty());
    // Before the slice says so.
    let mut stopping = pod("web-1", "10.1.0.1");
    stopping["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    world.see_pod(&stopping);
    assert_eq!(said(world.news()).pod.unwrap().unready, [8080].into());
}

#[test]
fn the_oldest_service_names_a_pod_and_its_workload_if_there_is_none() {
    let mut world = World::default();
    world.see_pod(&pod("web-1", "10.1.0.1"));
    assert_eq!(said(world.news()).pod.unwrap().service, "web.shop", "its Deployment");
    world.see_service(&service("new", "2026-02-01T00:00:00Z", "10.96.0.2"));
    assert_eq!(said(world.news()).pod.unwrap().service, "new.shop");
    world.see_service(&service("old", "2026-01-01T00:00:00Z", "10.96.0.1"));
    assert_eq!(said(world.news()).pod.unwrap().service, "old.shop");
    world.see_service(&service("a-later-one", "2026-03-01T00:00:00Z", "10.96.0.3"));
    assert!(world.news().dataplanes.is_empty());
}

#[test]
fn what_ursa_says_of_a_pod_its_labels_cannot() {
    let mut spoofed = pod("web-1", "10.1.0.1");
    spoofed["metadata"]["labels"]["ursamesh.io/service"] = json!("payments.bank");
    spoofed["metadata"]["labels"]["ursamesh.io/namespace"] = json!("bank");
    let mut world = World::default();
    world.see_pod(&spoofed);
    let pod = said(world.news()).pod.unwrap();
    assert_eq!((pod.service.as_str(), pod.tags[tag::NAMESPACE].as_str()), ("web.shop", "shop"));
}

#[test]
fn what_annotations_wish_is_carried_and_decided_elsewhere() {
    let mut world = web();
    assert_eq!(said(world.news()).pod.unwrap().wished_names, [].into());
    let mut named = service("web", "2026-01-01T00:00:00Z", "10.96.0.1");
    named["metadata"]["annotations"] = json!({"ursamesh.io/service": "shopfront"});
    world.see_service(&named);
    let news = world.news();
    let addresses = news.addresses.clone().unwrap();
    assert_eq!(
        addresses.iter().map(|at| (at.service.as_str(), at.wished.as_deref())).collect::<Vec<_>>(),
        [("web.shop", Some("shopfront"))]
    );
    let spec = said(news);
    assert_eq!(spec.networking.inbound[0].service(), "web.shop");
    let of = spec.pod.unwrap();
    assert_eq!((of.service.as_str(), of.wished_service), ("web.shop", None));
    assert_eq!(of.wished_names, [("web.shop".to_owned(), "shopfront".to_owned())].into());
    let mut pod = pod("web-1", "10.1.0.1");
    pod["metadata"]["annotations"] = json!({"ursamesh.io/service": "front"});
    world.see_pod(&pod);
    let of = said(world.news()).pod.unwrap();
    assert_eq!((of.service.as_str(), of.wished_service.as_deref()), ("web.shop", Some("front")));
}

#[test]
fn a_pod_that_no_endpoint_shows_yet_carries_the_wish_of_the_service_that_selects_it() {
    let mut world = World::default();
    let mut named = service("web", "2026-01-01T00:00:00Z", "10.96.0.1");
    named["metadata"]["annotations"] = json!({"ursamesh.io/service": "shopfront"});
    world.see_pod(&pod("web-1", "10.1.0.1")).see_service(&named);
    let of = said(world.news()).pod.unwrap();
    assert_eq!(of.wished_names, [("web.shop".to_owned(), "shopfront".to_owned())].into());
    // One that only has the name of its workload wishes nothing for it.
    named["spec"]["selector"] = json!({"app": "other"});
    world.see_service(&named);
    let of = said(world.news()).pod.unwrap();
    assert_eq!((of.service.as_str(), of.wished_names), ("web.shop", [].into()));
}

#[test]
fn a_pod_that_is_gone_or_ended_or_in_another_mesh_leaves_its_mesh() {
    let ended = |change: &dyn Fn(&mut Value)| {
        let mut world = web();
        let [(key, _)] = &world.news().dataplanes[..] else { panic!("one dataplane") };
        let key = key.clone();
        let mut pod = pod("web-1", "10.1.0.1");
        change(&mut pod);
        world.see_pod(&pod);
        let news = world.news();
        assert_eq!(news.dataplanes.first(), Some(&(key, None)));
        news.dataplanes.len()
    };
    assert_eq!(ended(&|pod| pod["status"]["phase"] = json!("Succeeded")), 1);
    assert_eq!(ended(&|pod| pod["spec"]["initContainers"] = json!([])), 1);
    assert_eq!(ended(&|pod| pod["spec"]["initContainers"][0]["env"][0]["value"] = json!("other")), 2);
    let mut world = web();
    world.news();
    world.pod(Name::new("shop", "web-1"), None);
    assert!(matches!(&world.news().dataplanes[..], [(_, None)]));
}

#[test]
fn a_service_is_called_at_its_address_and_a_headless_one_at_its_pods() {
    let mut world = web();
    world.see_service(&service("peers", "2026-01-02T00:00:00Z", "None"));
    world.see_slice(&slice("peers", &[("web-1", "10.1.0.1", true), ("not-in-the-mesh", "10.1.0.9", true)]));
    let addresses = world.news().addresses.unwrap();
    let text = |at: &ServiceAddress| {
        format!("{}:{} {}:{} {:?}", at.address, at.port, at.service, at.service_port, at.instance)
    };
    let all: Vec<_> = addresses.iter().map(text).collect();
    assert_eq!(all, ["10.1.0.1:8080 peers.shop:80 Some(\"web-1.shop\")", "10.96.0.1:80 web.shop:80 None"]);
}
