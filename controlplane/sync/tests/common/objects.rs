//! Objects, and their form on the wire.

use std::fmt::Write as _;

use ursa_crds::{Object, ObjectKey, Pod, Spec};
use ursa_proto::sync::{Held, Item, Key};

/// From YAML, without the first line that all have.
pub(crate) fn object(yaml: &str) -> Object {
    let object = read(yaml);
    assert_eq!(ursa_policy::validate(&object), [], "{yaml}");
    object
}

/// The same without validation.
pub(crate) fn read(yaml: &str) -> Object {
    ursa_crds::decode(format!("apiVersion: ursamesh.io/v1alpha1\n{yaml}").as_bytes()).unwrap()
}

pub(crate) fn mesh() -> Object {
    object("kind: Mesh\nmetadata: {name: default}\n")
}

pub(crate) fn permission(name: &str) -> Object {
    object(&permission_yaml(name))
}

/// A permission of this many bytes about.
pub(crate) fn large_permission(name: &str, bytes: usize) -> Object {
    let mut yaml = permission_yaml(name);
    let from = yaml.find("{name:").unwrap() + 1;
    yaml.insert_str(from, &format!("annotations: {{size: {}}}, ", "x".repeat(bytes)));
    object(&yaml)
}

fn permission_yaml(name: &str) -> String {
    let all = "[{match: {ursamesh.io/service: '*'}}]";
    format!(
        "kind: TrafficPermission\nmetadata: {{name: {name}}}\nspec: {{mesh: default, sources: {all}, destinations: {all}}}\n"
    )
}

/// What a zone offers: these services, an instance each.
pub(crate) fn mesh_zone(zone: &str, services: &[&str]) -> Object {
    let mut yaml =
        format!("kind: MeshZone\nmetadata: {{name: {zone}}}\nspec:\n  mesh: default\n  services:\n");
    for service in services {
        let tags = format!("{{ursamesh.io/service: {service}}}");
        writeln!(yaml, "  - {{tags: {tags}, instances: 1, protocol: tcp, identityServices: [{service}]}}")
            .unwrap();
    }
    object(&yaml)
}

pub(crate) fn ingress(name: &str, zone: &str, address: &str) -> Object {
    object(&format!(
        "kind: ZoneIngress\nmetadata: {{name: {name}}}\nspec: {{zone: {zone}, networking: {{address: {address}}}}}\n"
    ))
}

pub(crate) fn zone(name: &str, enabled: bool) -> Object {
    object(&format!("kind: Zone\nmetadata: {{name: {name}}}\nspec: {{enabled: {enabled}}}\n"))
}

pub(crate) fn dataplane(name: &str) -> Object {
    object(&dataplane_yaml(name, "web"))
}

pub(crate) fn dataplane_yaml(name: &str, service: &str) -> String {
    format!(
        "kind: Dataplane\nmetadata: {{name: {name}}}\nspec:\n  mesh: default\n  networking:\n    address: 10.0.0.1\n    \
         inbound: [{{port: 80, servicePort: 81, tags: {{ursamesh.io/service: {service}}}}}]\n"
    )
}

/// The dataplane of a pod, as discovery shows it.
pub(crate) fn pod(name: &str) -> Object {
    let mut object = dataplane(name);
    if let Spec::Dataplane(spec) = &mut object.spec {
        spec.pod = Some(Pod {
            namespace: "shop".into(),
            uid: format!("uid-{name}"),
            service: "web".into(),
            wished_service: None,
            wished_names: Default::default(),
            tags: Default::default(),
            unready: Default::default(),
            started: true,
        });
    }
    object
}

/// What a zone observes of its dataplane web-1; valid under the name `ZONE.web-1` only.
pub(crate) fn dataplane_insight(name: &str, zone: &str) -> Object {
    read(&format!(
        "kind: DataplaneInsight\nmetadata: {{name: {name}}}\nspec: {{mesh: default, zone: {zone}, dataplane: web-1, address: 10.0.0.1}}\n"
    ))
}

/// The key on the wire.
pub(crate) fn key(key: &ObjectKey) -> Key {
    Key { kind: key.kind.info().name.into(), mesh: key.mesh.clone(), name: key.name.clone() }
}

/// As an owner sends it, whoever owns it.
pub(crate) fn item(object: &Object) -> Item {
    let mut object = object.clone();
    object.meta.uid = "4b0a4e5e-0f3c-4d6e-9c58-0123456789ab".into();
    object.meta.generation = 1;
    let created = "2026-01-01T00:00:00Z";
    let text = format!("{{\"object\": {}, \"created\": \"{created}\"}}", object.to_stored_value());
    Item { key: Some(key(&object.key())), version: "v1".into(), object: text.into_bytes() }
}

/// What a holder of these items says that it has.
pub(crate) fn held(items: &[Item]) -> Vec<Held> {
    items.iter().map(|item| Held { key: item.key.clone(), version: item.version.clone() }).collect()
}

/// `KIND NAME` of each item.
pub(crate) fn names(items: &[Item]) -> Vec<String> {
    items.iter().map(|item| item.key.as_ref().unwrap()).map(text).collect()
}

/// `KIND NAME`.
pub(crate) fn text(key: &Key) -> String {
    format!("{} {}", key.kind, key.name)
}
