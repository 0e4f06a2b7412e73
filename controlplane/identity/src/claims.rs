//! What tokens say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::TokenError;

/// What a data-plane token allows: to run dataplanes of one mesh, bound to a name, to services, or to both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataplaneClaims {
    /// The mesh.
    pub mesh: String,
    /// The only zone in which it counts; any if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The only dataplane; any if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The services that the dataplane may serve; without a name at least one is needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// The tags that the dataplane proves: of these, what its mesh declares is part of its identity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

impl DataplaneClaims {
    /// Whether the token is for this dataplane, serving these services in this zone.
    ///
    /// A token that is bound to a name alone allows that dataplane any service.
    pub fn admits(&self, mesh: &str, name: &str, services: &[&str], zone: &str) -> Result<(), TokenError> {
        let refuse = |what: &str, wanted: &str, allowed: &str| {
            Err(TokenError::NotAllowed(format!("the token is for {what} {allowed}, not {wanted}")))
        };
        if self.mesh != mesh {
            return refuse("mesh", mesh, &self.mesh);
        }
        match &self.zone {
            Some(only) if only != zone => return refuse("zone", zone, only),
            _ => {}
        }
        match &self.name {
            Some(only) if only != name => return refuse("dataplane", name, only),
            _ => {}
        }
        if self.services.is_empty() && self.name.is_some() {
            return Ok(());
        }
        match services.iter().find(|service| !self.services.iter().any(|allowed| allowed == *service)) {
            Some(service) => refuse("services", service, &self.services.join(", ")),
            None => Ok(()),
        }
    }
}

/// Who a user is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserClaims {
    /// The user's name, for logs.
    pub name: String,
    /// The groups; `admin` may do everything.
    pub groups: Vec<String>,
}

/// Which zone a zone control plane is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneClaims {
    /// The zone.
    pub zone: String,
    /// The UID of its `Zone`: a token ends with that, and one of the same name that comes later has others.
    pub uid: String,
}

/// Which replica of a control plane calls another one. No interface issues it: a replica makes it for itself, with the
/// signing key that all replicas share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaClaims {
    /// The namespace that is the control plane's own.
    pub namespace: String,
    /// The replica's name, one of a kind.
    pub replica: String,
}
