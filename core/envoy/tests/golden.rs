//! Goldens: a `ProxyModel` (and endpoint sets) in, Envoy resources out; every output is loaded by a real Envoy too.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ursa-envoy` rewrites the outputs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};

use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde::Deserialize;
use serde_json::{Value, json};
use ursa_envoy::{
    BootstrapSettings, Interner, Resource, ResourceType, Weight, bootstrap, endpoint_resource,
    identity_secret, ingress_endpoint_resource, translate, weigh,
};
use ursa_model::{Destination, EndpointSet, ProxyModel};

type TestResult = Result<(), Box<dyn std::error::Error>>;

datatest_stable::harness! {
    { test = golden, root = "testdata", pattern = r"\.in\.yaml$" },
    { test = every_output_has_an_input, root = "testdata", pattern = r"\.out\.yaml$" },
}

#[derive(Deserialize)]
#[serde(tag = "kind", deny_unknown_fields)]
enum Document {
    Case {
        /// One sentence: why the case exists.
        why: String,
    },
    ProxyModel {
        model: ProxyModel,
    },
    Endpoints {
        cluster: String,
        endpoints: EndpointSet,
    },
    IngressEndpoints {
        cluster: String,
        endpoints: EndpointSet,
    },
}

fn golden(path: &Path) -> TestResult {
    let documents: Vec<Document> = serde_saphyr::from_multiple(&std::fs::read_to_string(path)?)?;
    let mut interner = Interner::default();
    let mut sections: BTreeMap<ResourceType, Vec<Value>> = BTreeMap::new();
    let mut keep = Vec::new();
    for (position, document) in documents.into_iter().enumerate() {
        let resources = match document {
            Document::Case { why } => {
                assert!(position == 0 && !why.is_empty(), "the first document says why the case exists");
                Vec::new()
            }
            Document::ProxyModel { model } => {
                parts_weigh_as_much_as_the_whole(&model);
                translate(&model, &mut interner).into_values().collect()
            }
            Document::Endpoints { cluster, endpoints } => {
                vec![endpoint_resource(&cluster, &endpoints, &mut interner)]
            }
            Document::IngressEndpoints { cluster, endpoints } => {
                vec![ingress_endpoint_resource(&cluster, &endpoints, &mut interner)]
            }
        };
        for resource in resources {
            sections.entry(resource.key.resource_type).or_default().push(to_json(&resource)?);
            keep.push(resource);
        }
    }
    let named: BTreeMap<String, &Vec<Value>> = sections
        .iter()
        .map(|(kind, resources)| (format!("{kind:?}").to_lowercase() + "s", resources))
        .collect();
    compare(&output_of(path), &serde_saphyr::to_string(&named)?)?;
    load_in_envoy(&sections)
}

/// Of what is no ingress.
fn parts_weigh_as_much_as_the_whole(model: &ProxyModel) {
    let nowhere = |destination: &Arc<Destination>| EndpointSet {
        destination: destination.id.clone(),
        endpoints: Vec::new(),
    };
    let endpoints: Vec<_> = model.destinations.iter().map(nowhere).collect();
    let weights = weigh(model, &endpoints);
    let mut parts = weights.others;
    for part in weights.outbounds.into_iter().chain(weights.destinations) {
        parts += part;
    }
    let mut all = Weight::default();
    for of_type in weights.types.into_values() {
        all += of_type;
    }
    assert!(model.ingress_listener.is_some() || parts == all, "{parts:?} of {all:?}");
}

fn every_output_has_an_input(path: &Path) -> TestResult {
    let input = path.to_string_lossy().replace(".out.yaml", ".in.yaml");
    Path::new(&input).exists().then_some(()).ok_or_else(|| format!("{input} is missing").into())
}

fn output_of(input: &Path) -> PathBuf {
    input.to_string_lossy().replace(".in.yaml", ".out.yaml").into()
}

fn compare(path: &Path, actual: &str) -> TestResult {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return Ok(std::fs::write(path, actual)?);
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    if expected == actual {
        return Ok(());
    }
    let diff = similar::TextDiff::from_lines(&expected, actual);
    Err(format!("{} differs (UPDATE_GOLDEN=1 rewrites it):\n{}", path.display(), diff.unified_diff()).into())
}

/// The descriptors that envoy-types ships beside its generated code.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo metadata runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let package = metadata["packages"]
        .as_array()
        .and_then(|packages| packages.iter().find(|package| package["name"] == "envoy-types"))
        .expect("envoy-types is in the graph");
    let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
    let descriptors =
        std::fs::read(manifest.with_file_name("src/generated/types.bin")).expect("descriptors are shipped");
    DescriptorPool::decode(descriptors.as_slice()).expect("descriptors decode")
});

/// With every `Any` unpacked and all keys in order.
fn to_json(resource: &Resource) -> Result<Value, Box<dyn std::error::Error>> {
    let any = POOL.get_message_by_name("google.protobuf.Any").expect("a well-known type");
    let message = DynamicMessage::decode(any, prost::Message::encode_to_vec(&resource.body).as_slice())?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    let value = message.serialize_with_options(serde_json::value::Serializer, &options)?;
    Ok(sorted(value))
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let ordered: BTreeMap<String, Value> = map.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

fn load_in_envoy(sections: &BTreeMap<ResourceType, Vec<Value>>) -> TestResult {
    let untyped = |kind| -> Vec<Value> {
        let resources = sections.get(&kind).cloned().unwrap_or_default();
        resources
            .into_iter()
            .map(|mut resource| {
                resource.as_object_mut().and_then(|fields| fields.remove("@type"));
                resource
            })
            .collect()
    };
    let folder = tempfile::tempdir()?;
    let settings = BootstrapSettings {
        node_id: "default/golden".into(),
        agent_socket: folder.path().join("agent.sock"),
        admin_socket: folder.path().join("admin.sock"),
    };
    let mut config: Value = serde_json::from_str(&bootstrap(&settings))?;
    let resources = config["static_resources"].as_object_mut().expect("a bootstrap has static resources");
    let mut clusters = untyped(ResourceType::Cluster);
    clusters.extend(resources["clusters"].as_array().cloned().unwrap_or_default());
    resources.insert("clusters".into(), json!(clusters));
    let mut listeners = untyped(ResourceType::Listener);
    for listener in &mut listeners {
        inline_routes(listener, &untyped(ResourceType::Route));
    }
    resources.insert("listeners".into(), json!(listeners));
    let identity = Resource {
        key: ursa_envoy::ResourceKey {
            resource_type: ResourceType::Secret,
            name: ursa_envoy::IDENTITY_SECRET.into(),
        },
        version: String::new(),
        body: identity_secret("", ""),
    };
    let _ = to_json(&identity)?;
    resources.insert("secrets".into(), json!(untyped(ResourceType::Secret)));
    let file = folder.path().join("bootstrap.json");
    std::fs::write(&file, serde_json::to_string_pretty(&config)?)?;
    let output = Command::new(envoy()?).args(["--mode", "validate", "--config-path"]).arg(&file).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("Envoy refuses the resources:\n{}", String::from_utf8_lossy(&output.stderr)).into())
}

/// Puts the route configuration in the place of the reference to it, so that Envoy reads it.
fn inline_routes(value: &mut Value, routes: &[Value]) {
    match value {
        Value::Object(fields) => {
            if let Some(rds) = fields.remove("rds") {
                let route = routes.iter().find(|route| route["name"] == rds["route_config_name"]);
                fields
                    .insert("route_config".into(), route.expect("each listener's routes are there").clone());
            }
            fields.values_mut().for_each(|field| inline_routes(field, routes));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| inline_routes(item, routes)),
        _ => {}
    }
}

fn envoy() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("URSA_ENVOY") {
        return Ok(path.into());
    }
    let cache = std::env::var_os("URSA_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/ursa")));
    cache
        .map(|cache| cache.join("envoy/1.40.0/envoy"))
        .filter(|path| path.exists())
        .ok_or_else(|| "Envoy is not installed: run `make tools`".into())
}
