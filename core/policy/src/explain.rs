//! Which policies are behind what a proxy does: found by the same code that decides.

use std::net::IpAddr;

use serde::Serialize;
use ursa_crds::{Action, Tags};

use crate::view::{MeshView, Seen};

/// The policies behind what one proxy does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyPolicies {
    /// As in the dataplane.
    pub inbounds: Vec<InboundPolicies>,
    /// As in the dataplane.
    pub outbounds: Vec<OutboundPolicies>,
}

/// The policies of an inbound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InboundPolicies {
    /// The inbound's port.
    pub port: u16,
    /// The service.
    pub service: String,
    /// The permissions that reach it, ordered by name.
    pub permissions: Vec<ReachingPermission>,
    /// What follows from them, for people.
    pub decision: String,
}

/// A permission that reaches an inbound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReachingPermission {
    /// Its name.
    pub name: String,
    /// What it does.
    pub action: Action,
}

/// The policies of an outbound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutboundPolicies {
    /// The local address.
    pub address: IpAddr,
    /// The local port.
    pub port: u16,
    /// The service.
    pub service: String,
    /// The route that wins; `None`: all instances get equal shares.
    pub route: Option<String>,
}

impl MeshView {
    /// The policies behind what the proxy of a dataplane does; `None` if there is no such dataplane.
    pub fn policies(&self, name: &str) -> Option<ProxyPolicies> {
        let Seen { spec, inbounds: tag_sets, caller } = self.dataplane(name)?;
        let inbounds = spec.networking.inbound.iter().zip(&tag_sets).map(|(inbound, tags)| InboundPolicies {
            port: inbound.port,
            service: inbound.service().to_owned(),
            permissions: self.permissions_of(tags),
            decision: self.decision(tags),
        });
        let outbounds = self.calls(spec).map(|call| OutboundPolicies {
            address: call.address,
            port: call.port,
            route: self.routes.winner(&caller, &call.tags).map(|(route, _)| route.meta.name.clone()),
            service: call.service(),
        });
        Some(ProxyPolicies { inbounds: inbounds.collect(), outbounds: outbounds.collect() })
    }

    fn permissions_of(&self, tags: &Tags) -> Vec<ReachingPermission> {
        let tags = [tags];
        let reaching = self.permissions.reaching(&tags);
        reaching
            .map(|(object, spec)| ReachingPermission { name: object.meta.name.clone(), action: spec.action })
            .collect()
    }

    fn decision(&self, tags: &Tags) -> String {
        let reaching = self.permissions_of(tags);
        if !self.mtls {
            "mutual TLS is off: everybody who can connect is admitted, permissions have no effect".into()
        } else if !reaching.iter().any(|permission| permission.action == Action::Allow) {
            "no permission allows anybody: everybody is refused".into()
        } else if reaching.iter().any(|permission| permission.action == Action::Deny) {
            "known workloads that a permission allows and none denies are admitted; others are refused".into()
        } else {
            "whoever a permission allows is admitted; others are refused".into()
        }
    }
}
