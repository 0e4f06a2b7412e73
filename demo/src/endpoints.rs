//! `endpoints.json`: where a running demo can be reached, for scripts. It exists only while all is up.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::topology::{Topology, Zone};

/// The file's name in the state folder.
pub const FILE: &str = "endpoints.json";

/// Where a demo can be reached.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// Where meshes and policies are applied.
    pub global: Global,
    /// By the zone's name.
    pub zones: BTreeMap<String, ZoneEndpoints>,
}

/// Where meshes and policies are applied.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Global {
    /// The REST API, a plain HTTP URL.
    pub api: String,
    /// The file with the token for it, an absolute path.
    pub admin_token_file: PathBuf,
}

/// Where a zone can be reached.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ZoneEndpoints {
    /// The REST API of the zone's control plane, a plain HTTP URL.
    pub api: String,
    /// The application, a plain HTTP URL.
    pub demo_app: String,
    /// Where Redis' proxy takes traffic of the mesh, `HOST:PORT`.
    pub redis_inbound: String,
}

impl Endpoints {
    /// Of a topology whose global control plane keeps its admin token in this file.
    pub fn of(topology: &Topology, admin_token_file: PathBuf) -> Self {
        let zone = |zone: &Zone| ZoneEndpoints {
            api: zone.control_plane().api(),
            demo_app: format!("http://{}", zone.app()),
            redis_inbound: zone.redis().inbound().to_string(),
        };
        let api = topology.global.api();
        Self {
            global: Global { api, admin_token_file },
            zones: topology.zones.iter().map(|z| (z.name.clone(), zone(z))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_file_has_the_form_that_scripts_expect() {
        let endpoints = Endpoints::of(&Topology::talk(0), "/state/admin-token".into());
        let zone = |number: u8| {
            json!({
                "api": format!("http://127.{number}.0.1:5681"),
                "demoApp": format!("http://127.{number}.0.3:5000"),
                "redisInbound": format!("127.{number}.0.4:6379"),
            })
        };
        let expected = json!({
            "global": {"api": "http://127.0.1.1:5681", "adminTokenFile": "/state/admin-token"},
            "zones": {"aws": zone(1), "east": zone(2), "west": zone(3)},
        });
        assert_eq!(serde_json::to_value(&endpoints).unwrap(), expected);
    }
}
