//! What is observed, and what follows from the resources for each proxy. Proxies are known in their own zone only.

use std::cell::LazyCell;
use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};
use ursa_crds::{DataplaneInsightSpec, Kind, Object, ObjectKey, Spec, tag};
use ursa_index::{DataplaneAddresses, Index, ProxyInsight};
use ursa_model::ProxyId;
use ursa_store::Store;

use crate::problem::Problem;
use crate::size::size;
use crate::{ApiState, body};

type Answer = Result<Response, Problem>;

/// `GET /meshes/{mesh}/services`: `{items: [{service, instances, zones: {ZONE: INSTANCES}}]}`, ordered by service.
pub(crate) async fn services(
    State(state): State<ApiState>,
    Path(mesh): Path<String>,
    headers: HeaderMap,
) -> Answer {
    known_mesh(&state, &mesh)?;
    let mut services: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for object in state.store.list_in_mesh(Kind::MeshZone, &mesh) {
        let Spec::MeshZone(spec) = &object.spec else { continue };
        for offered in &spec.services {
            let service = offered.tags.get(tag::SERVICE).cloned().unwrap_or_default();
            *services.entry(service).or_default().entry(object.meta.name.clone()).or_default() +=
                u64::from(offered.instances);
        }
    }
    let items: Vec<Value> = services
        .into_iter()
        .map(|(service, zones)| json!({"service": service, "instances": zones.values().sum::<u64>(), "zones": zones}))
        .collect();
    Ok(body::answer(StatusCode::OK, &headers, &json!({"items": items})))
}

/// `GET /meshes/{mesh}/dataplanes+insights`: every dataplane with what is known of its proxy, by name; at global those of
/// all zones, as far as the zones report them.
pub(crate) async fn insights(
    State(state): State<ApiState>,
    Path(mesh): Path<String>,
    headers: HeaderMap,
) -> Answer {
    known_mesh(&state, &mesh)?;
    let Some(index) = &state.index else {
        let items: Vec<Value> = reported(&state, &mesh);
        return Ok(body::answer(StatusCode::OK, &headers, &json!({"items": items})));
    };
    let mut dataplanes = state.store.list_in_mesh(Kind::Dataplane, &mesh);
    dataplanes.retain(|dataplane| dataplane.meta.namespace.is_empty());
    let addresses = LazyCell::new(|| addresses(&state.store));
    let items: Vec<Value> = dataplanes
        .iter()
        .map(|object| {
            let insight = index.insights().get(&ProxyId::new(&mesh, &object.meta.name)).unwrap_or_default();
            json!({"zone": state.info.zone, "dataplane": object.to_value(), "insight": insight_value(object, &insight, &addresses)})
        })
        .collect();
    Ok(body::answer(StatusCode::OK, &headers, &json!({"items": items})))
}

/// What zones report, in the form of [`insights`].
fn reported(state: &ApiState, mesh: &str) -> Vec<Value> {
    let item = |spec: &DataplaneInsightSpec| {
        let networking = json!({"address": spec.address, "inbound": spec.inbounds});
        json!({
            "zone": spec.zone,
            "dataplane": {"metadata": {"name": spec.dataplane}, "spec": {"mesh": mesh, "networking": networking}},
            "insight": {
                "connected": spec.connected,
                "connectedAt": spec.connected_at,
                "disconnectedAt": spec.disconnected_at,
                "unheardSince": spec.unheard_since,
                "tokenId": spec.token_id,
                "agentVersion": spec.agent_version,
                "envoyVersion": spec.envoy_version,
                "rejections": spec.rejections,
                "unauthenticatedPeers": spec.unauthenticated_peers,
                "certificateBackend": spec.certificate.as_ref().map(|held| &held.backend),
                "certificateExpires": spec.certificate.as_ref().map(|held| held.expires),
            },
        })
    };
    let all = state.store.list_in_mesh(Kind::DataplaneInsight, mesh);
    let specs = all.iter().filter_map(|object| match &object.spec {
        Spec::DataplaneInsight(spec) => Some(spec),
        _ => None,
    });
    specs.map(item).collect()
}

/// `GET /meshes/{mesh}/dataplanes/{name}/{view}`: `config` is what the proxy is to do, `policies` is why, `clusters` is
/// where its destinations are, `insight` is what is known of it, `size` is how big all of it is, and why.
pub(crate) async fn dataplane(
    State(state): State<ApiState>,
    Path((mesh, name, view)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Answer {
    let index = index(&state)?;
    let proxy = ProxyId::new(&mesh, &name);
    let key = ObjectKey::in_mesh(Kind::Dataplane, &mesh, &name);
    let missing = || Problem::not_found(format!("{key} does not exist in this zone"));
    let object = state.store.get(&key).ok_or_else(missing)?;
    if view == "insight" {
        let insight = index.insights().get(&proxy).unwrap_or_default();
        let value = insight_value(&object, &insight, &LazyCell::new(|| addresses(&state.store)));
        return Ok(body::answer(StatusCode::OK, &headers, &value));
    }
    let known = index.inspect(&proxy).await.ok_or_else(missing)?;
    let value = match view.as_str() {
        "config" => json!(known.config),
        "policies" => json!(known.policies),
        "clusters" => json!({"items": known.endpoints}),
        "size" => size(&known),
        _ => {
            return Err(Problem::not_found(format!(
                "{view:?} is none of config, policies, clusters, insight, size"
            )));
        }
    };
    Ok(body::answer(StatusCode::OK, &headers, &value))
}

fn known_mesh(state: &ApiState, mesh: &str) -> Result<(), Problem> {
    let known = state.store.get(&ObjectKey::mesh(mesh));
    known.map(drop).ok_or_else(|| Problem::not_found(format!("mesh {mesh} does not exist")))
}

fn index(state: &ApiState) -> Result<&Index, Problem> {
    state.index.as_ref().ok_or_else(|| {
        Problem::not_found(
            "a global control plane has no proxies: ask the control plane of the dataplane's zone",
        )
    })
}

/// Where the zone's dataplanes are.
fn addresses(store: &Store) -> DataplaneAddresses {
    let mut addresses = DataplaneAddresses::default();
    for object in store.list(Kind::Dataplane).iter().filter(|object| object.meta.namespace.is_empty()) {
        if let Spec::Dataplane(spec) = &object.spec {
            addresses.set(&ProxyId::new(&spec.mesh, &object.meta.name), Some(spec.networking.address));
        }
    }
    addresses
}

/// `addresses` are looked up only for who let somebody in.
fn insight_value(
    dataplane: &Object,
    insight: &ProxyInsight,
    addresses: &LazyCell<DataplaneAddresses, impl FnOnce() -> DataplaneAddresses>,
) -> Value {
    let ProxyInsight {
        connected,
        connected_at,
        disconnected_at,
        unheard_since,
        agent_version,
        envoy_version,
        acknowledged,
        responses,
        rejections,
        certificate,
        unauthenticated_peers,
        // What control planes alone go by.
        server_names: _,
        unready: _,
        behind: _,
    } = insight;
    let token_id = match &dataplane.spec {
        Spec::Dataplane(spec) => spec.token_id.as_ref(),
        _ => None,
    };
    let peers = match &unauthenticated_peers[..] {
        [] => Vec::new(),
        peers => addresses.named(peers),
    };
    let rejections: Vec<Value> = rejections
        .iter()
        .map(|(key, rejection)| {
            json!({
                "type": key.resource_type.type_url(),
                "name": key.name,
                "version": rejection.version,
                "message": rejection.message,
            })
        })
        .collect();
    json!({
        "connected": connected,
        "connectedAt": connected_at,
        "disconnectedAt": disconnected_at,
        "unheardSince": unheard_since,
        "tokenId": token_id,
        "agentVersion": agent_version,
        "envoyVersion": envoy_version,
        "acknowledged": acknowledged,
        "responses": responses,
        "rejections": rejections,
        "unauthenticatedPeers": peers,
        "certificateBackend": certificate.as_ref().map(|held| &held.backend),
        "certificateExpires": certificate.as_ref().map(|held| held.expires),
    })
}
