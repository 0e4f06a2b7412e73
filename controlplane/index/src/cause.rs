//! Which meshes, policies and roots may be behind an Envoy resource that a proxy refuses. Pure.
//!
//! Invariant: whatever may be behind it is named; what came later, or has no say in such a resource, is not.

use std::collections::BTreeSet;
use std::sync::Arc;

use ursa_crds::Kind;
use ursa_envoy::{ResourceKey, ResourceType, is_of_inbound};

/// What is new with a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The index's number of it.
    pub(crate) sequence: u64,
    /// UIDs of meshes, policies and roots that have changed; none: it was something else, or nobody knows.
    pub(crate) uids: BTreeSet<String>,
}

/// The changes that are new with a snapshot, for all proxies.
pub(crate) type Causes = Arc<Changes>;

/// What may be behind an Envoy resource.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suspect<'a> {
    /// Its UID.
    pub(crate) uid: &'a str,
    /// `None`: roots.
    pub(crate) kind: Option<Kind>,
    /// The index's number when snapshots began to follow it, in whatever state.
    pub(crate) came: u64,
}

impl Suspect<'_> {
    /// Whether it may be behind a resource that came with these changes.
    pub(crate) fn is_behind(&self, key: &ResourceKey, changes: &Changes) -> bool {
        let was_there = if changes.uids.is_empty() {
            self.came <= changes.sequence
        } else {
            changes.uids.contains(self.uid)
        };
        was_there && self.has_a_say_in(key)
    }

    fn has_a_say_in(&self, key: &ResourceKey) -> bool {
        match self.kind {
            Some(Kind::TrafficPermission) => is_of_inbound(&key.name),
            Some(Kind::TrafficRoute) => !is_of_inbound(&key.name),
            Some(_) => true,
            None => key.resource_type == ResourceType::Secret,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of these, named by what they are, and by the number of the index when they came; who is behind it.
    fn behind(resource_type: ResourceType, name: &str, uids: &[&str]) -> Vec<String> {
        let key = ResourceKey { resource_type, name: name.into() };
        let changes = Changes { sequence: 5, uids: uids.iter().map(|&uid| uid.to_owned()).collect() };
        let kinds = [
            ("mesh", Some(Kind::Mesh)),
            ("permission", Some(Kind::TrafficPermission)),
            ("roots", None),
            ("route", Some(Kind::TrafficRoute)),
        ];
        let all = kinds.into_iter().flat_map(|(name, kind)| [(name, kind, 5), (name, kind, 6)]);
        let all = all.map(|(name, kind, came)| (format!("{name}-{came}"), kind, came));
        let behind = all.filter(|(uid, kind, came)| {
            Suspect { uid: uid.as_str(), kind: *kind, came: *came }.is_behind(&key, &changes)
        });
        behind.map(|(uid, ..)| uid).collect()
    }

    use ResourceType::{Listener, Secret};

    #[test]
    fn where_no_change_is_known_it_is_what_was_there_and_has_a_say() {
        assert_eq!(behind(Listener, "outbound:127.0.0.1:80", &[]), ["mesh-5", "route-5"]);
        assert_eq!(behind(Listener, "inbound:10.0.0.1:80", &[]), ["mesh-5", "permission-5"]);
        assert_eq!(behind(Secret, "callers:10.0.0.1:80", &[]), ["mesh-5", "permission-5", "roots-5"]);
        assert_eq!(behind(Secret, "peers:web", &[]), ["mesh-5", "roots-5", "route-5"]);
    }

    #[test]
    fn where_changes_are_known_it_is_those_of_them_that_have_a_say() {
        let changed = ["route-5", "permission-5"];
        assert_eq!(behind(Listener, "outbound:127.0.0.1:80", &changed), ["route-5"]);
        assert_eq!(behind(Listener, "inbound:10.0.0.1:80", &changed), ["permission-5"]);
        assert!(behind(Listener, "outbound:127.0.0.1:80", &["gone"]).is_empty());
    }
}
