//! `inspect`: shows what is observed, and what follows for a proxy.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::args::{Common, Inspect, View};
use crate::client::Client;
use crate::environment::Environment;
use crate::{commands, output, peers, size, table};

/// The cells of an item.
type Row = fn(&Value) -> Vec<String>;

pub(crate) async fn run(common: &Common, environment: &Environment, inspect: &Inspect) -> anyhow::Result<()> {
    let client = commands::connect(common, environment)?;
    let mesh = common.mesh();
    let (titles, row, value): (&[&str], Row, Value) = match inspect {
        Inspect::Meshes => (&["NAME", "MTLS", "SERVICES", "INSTANCES"], mesh_row, meshes(&client).await?),
        Inspect::Zones => {
            let titles = &["NAME", "STATE", "BEHIND", "HEARD", "VERSION", "SCHEMA"];
            (titles, zone_row, client.get(&["zones+state"]).await?)
        }
        Inspect::Services => {
            let services = client.get(&["meshes", mesh, "services"]).await?;
            (&["SERVICE", "INSTANCES", "ZONES"], service_row, services)
        }
        Inspect::Dataplanes => {
            let titles =
                &["NAME", "ZONE", "SERVICE", "CONNECTED", "SINCE", "REFUSED", "CERTIFICATE ENDS", "ENVOY"];
            (titles, dataplane_row, client.get(&["meshes", mesh, "dataplanes+insights"]).await?)
        }
        Inspect::Dataplane { name, why_size: true, .. } => {
            let value = client.get(&["meshes", mesh, "dataplanes", name, "size"]).await?;
            let text = output::structured(common.output, &value)?;
            return output::print(&text.unwrap_or_else(|| size::render(&value)));
        }
        Inspect::Dataplane { name, view, .. } => {
            return dataplane(common, &client, name, *view).await;
        }
    };
    if let Some(text) = output::structured(common.output, &value)? {
        return output::print(&text);
    }
    let rows: Vec<_> = value["items"].as_array().into_iter().flatten().map(row).collect();
    let mut shown = table::render(titles, &rows);
    for item in value["items"].as_array().into_iter().flatten() {
        // Why a zone cannot connect.
        if let Some(reason) = item["incompatible"].as_str() {
            shown.extend([text(&item["name"]), format!(": {reason}\n")]);
        }
    }
    output::print(&shown)
}

/// One dataplane. What is no table people read as YAML; below policies, which do not judge them, and insight stands whom
/// its proxy let in without an identity of the mesh.
async fn dataplane(common: &Common, client: &Client, name: &str, view: View) -> anyhow::Result<()> {
    let get = async |view| client.get(&["meshes", common.mesh(), "dataplanes", name, view]).await;
    let mut value = match view {
        View::Config => get("config").await?,
        View::Policies => get("policies").await?,
        View::Clusters => get("clusters").await?,
        View::Insight => get("insight").await?,
    };
    if let Some(text) = output::structured(common.output, &value)? {
        return output::print(&text);
    }
    let unauthenticated = match view {
        View::Insight => value.as_object_mut().and_then(|fields| fields.remove("unauthenticatedPeers")),
        View::Policies => Some(get("insight").await?["unauthenticatedPeers"].take()),
        View::Config | View::Clusters => None,
    };
    let section = peers::section(&unauthenticated.unwrap_or_default(), Timestamp::now());
    output::print(&format!("{}{section}", output::yaml(&value)?))
}

async fn meshes(client: &Client) -> anyhow::Result<Value> {
    let mut items = Vec::new();
    for mesh in client.list(&["meshes"]).await? {
        let name = mesh["metadata"]["name"].as_str().unwrap_or_default();
        let services = client.get(&["meshes", name, "services"]).await?;
        let services = services["items"].as_array().cloned().unwrap_or_default();
        let instances: u64 = services.iter().filter_map(|service| service["instances"].as_u64()).sum();
        let mtls = &mesh["spec"]["mtls"]["enabledBackend"];
        items.push(json!({"name": name, "mtls": mtls, "services": services.len(), "instances": instances}));
    }
    Ok(json!({"items": items}))
}

fn mesh_row(mesh: &Value) -> Vec<String> {
    ["name", "mtls", "services", "instances"].map(|field| text(&mesh[field])).to_vec()
}

fn zone_row(zone: &Value) -> Vec<String> {
    let heard = since(&zone["heardAt"]);
    let behind =
        zone["secondsBehind"].as_u64().map_or_else(|| "-".to_owned(), |seconds| format!("{seconds}s"));
    let [name, state, version, schema] =
        ["name", "state", "version", "schema"].map(|field| text(&zone[field]));
    vec![name, state, behind, heard, version, schema]
}

fn service_row(service: &Value) -> Vec<String> {
    let zones = service["zones"].as_object().cloned().unwrap_or_default();
    let zones: Vec<String> = zones.iter().map(|(zone, count)| format!("{zone}={count}")).collect();
    vec![text(&service["service"]), text(&service["instances"]), zones.join(" ")]
}

fn dataplane_row(item: &Value) -> Vec<String> {
    let (dataplane, insight) = (&item["dataplane"], &item["insight"]);
    let inbound = &dataplane["spec"]["networking"]["inbound"][0];
    let unheard = &insight["unheardSince"];
    let (connected, changed) = match insight["connected"] == true {
        true => ("true".to_owned(), &insight["connectedAt"]),
        // The replica that its agent talked to is gone: nobody knows.
        false if !unheard.is_null() => ("unknown".to_owned(), unheard),
        false => (text(&insight["connected"]), &insight["disconnectedAt"]),
    };
    vec![
        text(&dataplane["metadata"]["name"]),
        text(&item["zone"]),
        text(&inbound["tags"]["ursamesh.io/service"]),
        connected,
        since(changed),
        insight["rejections"].as_array().map_or(0, Vec::len).to_string(),
        text(&insight["certificateExpires"]),
        text(&insight["envoyVersion"]),
    ]
}

fn since(time: &Value) -> String {
    table::age(time.as_str().and_then(|text| text.parse().ok()), Timestamp::now())
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
