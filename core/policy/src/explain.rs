//! Which policies are behind what a proxy does: found by the same code that decides.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use ursa_crds::{Action, DataplaneSpec, Tags, tag};

use crate::source::is_provable;
use crate::view::{MeshView, Seen};

/// The policies behind what one proxy does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyPolicies {
    /// The identity in its certificate; `None` without mutual TLS, or if it is not in the mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// What it wishes and does not get, and what is unresolved in permissions that reach it, for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
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
    /// Why the proxy has it.
    pub reason: OutboundReason,
    /// The route that wins; `None`: all instances get equal shares.
    pub route: Option<String>,
    /// The permissions that may let it in there, ordered by name; none: every call is refused. `None` without mutual TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<String>>,
}

/// Why a proxy has an outbound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum OutboundReason {
    /// Its dataplane names it.
    Declared,
    /// Its workload's traffic is captured: it may call every service of the mesh.
    Captured,
}

impl MeshView {
    /// The policies behind what the proxy of a dataplane does; `None` if there is no such dataplane.
    pub fn policies(&self, name: &str) -> Option<ProxyPolicies> {
        let workload = self.workload(name)?;
        let mut notes: Vec<String> = workload.exclusion.iter().chain(&workload.notes).cloned().collect();
        let Some(Seen { spec, inbounds: tag_sets, caller }) = self.dataplane(name) else {
            // It is not in the mesh.
            return Some(ProxyPolicies {
                identity: None,
                notes,
                inbounds: Vec::new(),
                outbounds: Vec::new(),
            });
        };
        notes.extend(self.unresolved(&tag_sets));
        notes.extend(self.mixed_outbounds(spec, &caller));
        let identity = self.identity(name).filter(|_| self.mtls).map(|id| id.to_string());
        let inbounds = spec.networking.inbound.iter().zip(&tag_sets).map(|(inbound, tags)| InboundPolicies {
            port: inbound.port,
            service: inbound.service().to_owned(),
            permissions: self.permissions_of(tags),
            decision: self.decision(tags),
        });
        let known = self.known_as(&self.input.zone, workload.known_as());
        let offers = self.reachable_remotes().flat_map(|remote| &remote.services);
        let offered: BTreeSet<&str> =
            offers.filter_map(|offer| offer.tags.get(tag::SERVICE)).map(String::as_str).collect();
        let admitting = |service: &str| -> Vec<String> {
            let here: BTreeSet<&Tags> = self.local.of(service).map(|inbound| &inbound.tags).collect();
            let elsewhere = here.is_empty() || offered.contains(service);
            let all = self.permissions.perhaps_admitting(&known, service, &here, elsewhere, &self.input.spec);
            all.into_iter().map(|object| object.meta.name.clone()).collect()
        };
        // A service may be called at an address of each of its instances.
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut permissions = |service: &str| -> Vec<String> {
            if !found.contains_key(service) {
                found.insert(service.to_owned(), admitting(service));
            }
            found[service].clone()
        };
        // What the dataplane names comes first.
        let declared = spec.networking.outbound.len();
        let outbounds = self.calls(spec).enumerate().map(|(position, call)| OutboundPolicies {
            address: call.address,
            port: call.port,
            reason: if position < declared { OutboundReason::Declared } else { OutboundReason::Captured },
            route: self.followed().winner(&caller, &call.tags).map(|(route, _)| route.meta.name.clone()),
            permissions: self.mtls.then(|| permissions(call.service())),
            service: call.service().to_owned(),
        });
        Some(ProxyPolicies { identity, notes, inbounds: inbounds.collect(), outbounds: outbounds.collect() })
    }

    /// Sources of permissions by tags that the mesh does not declare.
    fn unresolved(&self, inbounds: &[Tags]) -> BTreeSet<String> {
        let inbounds: Vec<&Tags> = inbounds.iter().collect();
        let reaching = self.permissions.reaching(&inbounds);
        let keys = reaching.flat_map(|(object, spec)| {
            spec.sources
                .iter()
                .flat_map(|source| source.match_tags.keys())
                .map(move |key| (object, spec, key))
        });
        let unresolved = keys.filter(|(_, _, key)| !is_provable(&self.input.spec, key));
        let said = unresolved.map(|(object, spec, key)| {
            let effect = match spec.action {
                Action::Allow => "so the source that names it selects nobody",
                Action::Deny => "so it is left out, and more is denied",
            };
            format!(
                "TrafficPermission {}: mesh {} does not declare the tag {key} in Mesh.spec.identityTags, {effect}",
                object.meta.name, self.input.name
            )
        });
        said.collect()
    }

    /// Outbounds that name no port of a service whose instances are not alike.
    fn mixed_outbounds(&self, spec: &DataplaneSpec, caller: &[Tags]) -> Vec<String> {
        let mut notes = Vec::new();
        // What the dataplane names comes first; what is known besides names the port.
        for call in self.calls(spec).take(spec.networking.outbound.len()) {
            let at = SocketAddr::new(call.address, call.port);
            let destinations = self.choose(&call, caller).shares.into_iter().map(|share| share.destination);
            let mixed = destinations
                .filter(|to| !to.subset.contains_key(tag::PORT) && self.facts(to).is_mixed())
                .map(|to| {
                    format!(
                        "outbound {at}: the instances of service {} speak different protocols, so that calls go to all of them in turn, \
                         as opaque bytes; if they are at different ports, name one by the tag {}",
                        to.service,
                        tag::PORT
                    )
                });
            notes.extend(mixed);
        }
        notes
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
