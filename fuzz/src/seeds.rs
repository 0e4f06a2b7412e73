//! What fuzzing begins with: valid input of every kind.

use std::fs;
use std::path::Path;

use prost::Message as _;
use serde_json::json;
use ursa_envoy::ResourceType;
use ursa_envoy::wire::DeltaDiscoveryRequest;
use ursa_proto::sync::{
    Delta, FromGlobal, FromZone, GlobalWelcome, Held, Item, Key, ZoneHello, from_global, from_zone,
};

/// Seeds of a target: valid input, and what once broke something.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    let mut seeds = match target {
        "resource" => {
            [files(&root.join("demo/resources")), files(&root.join("core/policy/testdata"))].concat()
        }
        "delta" => deltas(),
        _ => frames(),
    };
    seeds.extend(files(&root.join("fuzz/regressions").join(target)));
    seeds
}

/// The files of a folder and of those below it, in order.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let read = |path: &Path| {
        if path.is_dir() { files(path) } else { fs::read(path).into_iter().collect() }
    };
    paths.iter().flat_map(|path| read(path)).collect()
}

/// Steps of a client (see [`crate::delta`]): it subscribes, acknowledges, refuses, and says something of its own.
fn deltas() -> Vec<Vec<u8>> {
    let subscribe: Vec<u8> = (0..5).map(|position| position * 6).collect();
    let acknowledge = [1; 12].to_vec();
    let shift = |state: u8| vec![state * 6 + 3];
    let refuse = vec![2, 2];
    let mut seeds = vec![
        [
            subscribe.clone(),
            acknowledge.clone(),
            shift(1),
            acknowledge.clone(),
            shift(2),
            acknowledge.clone(),
        ]
        .concat(),
        [subscribe, refuse.clone(), shift(1), acknowledge, refuse, vec![4], shift(2)].concat(),
    ];
    for resource_type in ResourceType::ALL {
        let request = DeltaDiscoveryRequest {
            type_url: resource_type.type_url().into(),
            response_nonce: "1".into(),
            ..Default::default()
        };
        // As long as a step of raw bytes can be.
        let raw = request.encode_to_vec();
        if let Ok(length) = u8::try_from(raw.len().min(41)) {
            seeds.push([vec![length * 6 + 5], raw].concat());
        }
    }
    seeds
}

fn frames() -> Vec<Vec<u8>> {
    let tags = json!({"ursamesh.io/service": "redis"});
    let redis = json!({"tags": tags, "instances": 1, "protocol": "tcp", "identityServices": ["redis"]});
    let all = json!([{"match": {"ursamesh.io/service": "*"}}]);
    let networking = json!({"address": "192.0.2.1", "port": 10001});
    let objects = [
        ("MeshZone", "east", json!({"mesh": "default", "services": [redis]})),
        ("ZoneIngress", "east.ingress", json!({"zone": "east", "networking": networking})),
        ("DataplaneInsight", "east.web-1", json!({"mesh": "default", "zone": "east", "dataplane": "web-1"})),
        (
            "MeshZoneInsight",
            "east",
            json!({"mesh": "default", "resources": [{"uid": "u", "generation": 1, "enforced": true, "acked": 1, "total": 1}]}),
        ),
        ("TrafficPermission", "all", json!({"mesh": "default", "sources": all, "destinations": all})),
        ("Mesh", "default", json!({})),
    ];
    let mut seeds = Vec::new();
    for (kind, name, spec) in objects {
        let mesh = if ["Mesh", "ZoneIngress"].contains(&kind) { "" } else { "default" };
        let key = Key { kind: kind.into(), mesh: mesh.into(), name: name.into() };
        let object = json!({"apiVersion": ursa_crds::API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec});
        let object = json!({"object": object, "created": null}).to_string().into_bytes();
        let item = Item { key: Some(key.clone()), version: "1".into(), object };
        let delta = Delta { sequence: 1, upserts: vec![item], removals: vec![key.clone()] };
        let held = vec![Held { key: Some(key), version: "1".into() }];
        let (zone, version) = ("east".into(), "1".into());
        let hello = ZoneHello { zone, version, held: held.clone(), ..ZoneHello::default() };
        let welcome = GlobalWelcome { epoch: "e".into(), held, ..GlobalWelcome::default() };
        for message in [from_zone::Message::Delta(delta.clone()), from_zone::Message::Hello(hello)] {
            seeds.push([vec![0], FromZone { message: Some(message) }.encode_to_vec()].concat());
        }
        for message in [from_global::Message::Delta(delta), from_global::Message::Welcome(welcome)] {
            seeds.push([vec![1], FromGlobal { message: Some(message) }.encode_to_vec()].concat());
        }
    }
    seeds
}
