use super::*;

const SYSTEM: &str = "ursa-system";
/// What only a later version knows, whichever this is.
const LATER: &str = "wheel";

/// As another control plane stored it, with further fields of the specification.
fn stored(yaml: &str, is_copy: bool, further: &Value) -> DynamicObject {
    let text = format!("apiVersion: {API_VERSION}\n{yaml}");
    let mut object = ursa_crds::decode(text.as_bytes()).unwrap();
    (object.meta.uid, object.meta.generation) = ("u".into(), 3);
    let mut value = encode(&object, is_copy, SYSTEM);
    for (field, value_of) in further.as_object().unwrap() {
        value["spec"][field] = value_of.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn kind(stored: &DynamicObject) -> Kind {
    Kind::by_name(&stored.types.as_ref().unwrap().kind).unwrap()
}

fn understood(stored: &DynamicObject, schema: u32) -> Result<Object, String> {
    understand(kind(stored), stored, SYSTEM, schema).map_err(|problem| problem.to_string())
}

const MESH: &str =
    "kind: Mesh\nmetadata: {name: default}\nspec: {routing: {localityAwareLoadBalancing: true}}\n";
const OFFER: &str = "kind: MeshZone\nmetadata: {name: west}\nspec: {mesh: default}\n";
const INGRESS: &str =
    "kind: ZoneIngress\nmetadata: {name: west.in}\nspec: {zone: west, networking: {address: 10.0.0.9}}\n";
const ROUTE: &str = "kind: TrafficRoute\nmetadata: {name: r}\nspec: {sources: [{match: {a: b}}], destinations: [{match: {a: b}}], conf: {split: [{weight: 1, destination: {a: b}}]}}\n";

fn permission(action: &str) -> String {
    format!(
        "kind: TrafficPermission\nmetadata: {{name: p, namespace: shop}}\nspec: {{action: {action}, sources: [{{match: {{a: b}}}}], destinations: [{{match: {{a: b}}}}]}}\n"
    )
}

#[test]
fn what_control_planes_write_is_taken_without_what_is_later() {
    let members = json!({"members": {"zones": ["east"]}});
    let identities = json!({"identities": [{"service": "web"}]});
    let later = json!({LATER: {"spokes": 2}});
    for (yaml, is_copy, further, schema) in [
        (MESH, true, &members, 1),
        (OFFER, true, &identities, 1),
        (OFFER, false, &identities, 1),
        (MESH, true, &later, 2),
        (OFFER, false, &later, 2),
        (INGRESS, true, &later, 2),
        (INGRESS, false, &later, 2),
        (ROUTE, true, &later, 2),
        (&permission("Deny"), true, &later, 2),
    ] {
        let with = understood(&stored(yaml, is_copy, further), schema);
        let without = understood(&stored(yaml, is_copy, &json!({})), schema);
        assert!(without.is_ok() && with == without, "{yaml} {further}: {with:?}");
    }
    // To who knows it, it is another object.
    let [with, without] = [&members, &json!({})].map(|further| understood(&stored(MESH, true, further), 2));
    assert!(with.is_ok() && with != without);
}

/// It may be what narrows it.
#[test]
fn a_permission_that_allows_is_not_taken_without_what_is_later() {
    let copy = stored(&permission("Allow"), true, &json!({LATER: true}));
    assert_eq!(understood(&copy, 2), Err(format!("spec.{LATER}: unknown field")));
    // It is known which one it is, to be replaced.
    let key = understood(&stored(&permission("Allow"), true, &json!({})), 2).unwrap().key();
    assert_eq!((key.namespace.as_str(), key.mesh.as_str()), ("shop", "default"));
    assert_eq!(written_key(kind(&copy), &copy, SYSTEM), Some(key));
}

#[test]
fn what_users_write_is_refused_with_what_is_later() {
    let zone = "kind: Zone\nmetadata: {name: east}\n";
    let dataplane = "kind: Dataplane\nmetadata: {name: d}\nspec: {networking: {address: 10.0.0.1}}\n";
    let after = json!({"credentialsNotBefore": "2026-01-01T00:00:00Z"});
    for (yaml, further, field) in [
        (MESH, &json!({"members": {}}), "members"),
        (zone, &after, "credentialsNotBefore"),
        (dataplane, &json!({"tokenId": "t"}), "tokenId"),
        (&permission("Deny"), &json!({LATER: true}), LATER),
    ] {
        let object = stored(yaml, false, further);
        assert_eq!(understood(&object, 1), Err(format!("spec.{field}: unknown field")), "{yaml}");
        assert_eq!(written_key(kind(&object), &object, SYSTEM), None, "{yaml}");
    }
}

/// Who may write in a namespace gets no more by it.
#[test]
fn what_is_in_a_users_namespace_is_no_copy_whatever_it_says() {
    let mut claimed = stored(&permission("Deny"), true, &json!({}));
    claimed.metadata.namespace = Some("team-a".into());
    let taken = understood(&claimed, 2).unwrap();
    assert_eq!(
        (taken.meta.namespace.as_str(), &taken.meta.name),
        ("team-a", claimed.metadata.name.as_ref().unwrap())
    );
    assert!(taken.meta.uid.is_empty() && taken.meta.annotations.is_empty(), "{taken:?}");
    claimed.data["spec"][LATER] = json!(true);
    assert_eq!(understood(&claimed, 2), Err(format!("spec.{LATER}: unknown field")));
    // Nor does a mesh become another one.
    let mut claimed = stored(MESH, true, &json!({}));
    claimed.metadata.name = Some("other".into());
    assert!(understood(&claimed, 2).unwrap_err().contains("is not what a control plane wrote"));
}

#[test]
fn the_key_of_what_control_planes_wrote_is_known_whatever_is_in_it() {
    for (yaml, is_copy) in
        [(MESH, true), (OFFER, true), (OFFER, false), (INGRESS, true), (INGRESS, false), (ROUTE, true)]
    {
        let mut object = stored(yaml, is_copy, &json!({}));
        let key = understood(&object, 2).unwrap().key();
        object.data["spec"]["networking"] = json!(1);
        object.data["spec"]["routing"] = json!(1);
        object.data["spec"]["roots"] = json!(1);
        object.data["spec"]["sources"] = json!(1);
        assert!(understood(&object, 2).is_err(), "{yaml}");
        assert_eq!(written_key(kind(&object), &object, SYSTEM), Some(key), "{yaml}");
    }
}
