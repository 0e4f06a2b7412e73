//! The schema: one number for all that crosses processes, and what each of its values added.
//!
//! A process speaks every schema from the oldest that it understands to its newest; two that meet use the newest that both
//! speak. To an older peer kinds that it does not know are not sent, and fields that it does not know are left out.
//!
//! Invariant: what is added is in [`ADDITIONS`] with the schema that it came with, and is left out of an object that does
//! not use it, so that an object without it is the same to old and new.

mod fields;

use std::fmt;

use serde_json::Value;

use crate::decode::Problem;
use crate::{Action, Kind, Object, Spec};

/// The schema of this tree.
pub const CURRENT: u32 = 2;
/// The oldest that is spoken with others.
pub const OLDEST: u32 = 1;
const _: () = assert!(OLDEST + 1 == CURRENT, "N and N-1 are spoken");

/// What a schema added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addition {
    /// The schema that it came with.
    pub since: u32,
    /// The kind that it is, or is in.
    pub kind: Kind,
    /// Its path in the resource, such as `spec.mtls.backends[].conf`; `None`: the kind itself.
    pub field: Option<&'static str>,
}

const fn kind(since: u32, kind: Kind) -> Addition {
    Addition { since, kind, field: None }
}

const fn field(since: u32, kind: Kind, path: &'static str) -> Addition {
    Addition { since, kind, field: Some(path) }
}

/// What came with each schema after the first.
pub const ADDITIONS: &[Addition] = &[
    field(2, Kind::Mesh, "spec.members"),
    field(2, Kind::Mesh, "spec.services"),
    field(2, Kind::Mesh, "spec.identityTags"),
    field(2, Kind::Mesh, "spec.revokedTokens"),
    field(2, Kind::Zone, "spec.credentialsNotBefore"),
    field(2, Kind::Dataplane, "spec.tokenId"),
    field(2, Kind::MeshZone, "spec.identities"),
    field(2, Kind::DataplaneInsight, "spec.tokenId"),
    field(2, Kind::DataplaneInsight, "spec.unauthenticatedPeers"),
    kind(2, Kind::MeshZoneInsight),
    field(2, Kind::ZoneInsight, "spec.schema"),
    field(2, Kind::ZoneInsight, "spec.incompatible"),
];

/// Since when replicas of a control plane tell each other how far proxies are behind, and whom they let in without an
/// identity.
pub const REPLICAS_TELL_PROGRESS: u32 = 2;

fn additions(kind: Kind, schema: u32) -> impl Iterator<Item = &'static Addition> {
    ADDITIONS.iter().filter(move |addition| addition.kind == kind && addition.since > schema)
}

/// Whether a kind is of a schema.
pub fn knows(kind: Kind, schema: u32) -> bool {
    additions(kind, schema).all(|addition| addition.field.is_some())
}

/// Fields of a resource, in its JSON form, that are not of a schema.
pub fn unknown_fields(kind: Kind, resource: &Value, schema: u32) -> Vec<&'static str> {
    let fields = additions(kind, schema).filter_map(|addition| addition.field);
    fields.filter(|path| fields::is_present(resource, path)).collect()
}

/// The same of an object.
pub fn unknown_in(object: &Object, schema: u32) -> Vec<&'static str> {
    if schema >= CURRENT {
        return Vec::new();
    }
    unknown_fields(object.kind(), &object.to_value(), schema)
}

/// Leaves out of a resource, in its JSON form, what is not of a schema.
pub fn prune(kind: Kind, resource: &mut Value, schema: u32) {
    for path in additions(kind, schema).filter_map(|addition| addition.field) {
        fields::remove(resource, path);
    }
}

/// Refuses a resource that is not of a schema, as one who knows no more than that does.
pub fn check(kind: Kind, resource: &Value, schema: u32) -> Result<(), Problem> {
    if !knows(kind, schema) {
        return Err(Problem::new("kind", format!("unknown kind {kind}")));
    }
    match unknown_fields(kind, resource, schema).first() {
        Some(path) => Err(Problem::new(*path, "unknown field")),
        None => Ok(()),
    }
}

/// Whether a control plane may take what another one wrote without fields that came later. What a permission that allows is
/// without may be what narrows it; one that denies refuses no less than if it were not taken.
pub fn stands_without_later(object: &Object) -> bool {
    match &object.spec {
        Spec::Mesh(_) | Spec::TrafficRoute(_) | Spec::MeshZone(_) | Spec::ZoneIngress(_) => true,
        Spec::TrafficPermission(spec) => spec.action == Action::Deny,
        // These are nobody's to copy, or in memory only.
        Spec::Secret(_)
        | Spec::Zone(_)
        | Spec::Dataplane(_)
        | Spec::DataplaneInsight(_)
        | Spec::MeshZoneInsight(_)
        | Spec::ZoneInsight(_) => false,
    }
}

/// The schemas that a process speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schemas {
    /// The oldest.
    pub oldest: u32,
    /// The newest.
    pub newest: u32,
}

impl Schemas {
    /// Those of this tree.
    pub const OURS: Self = Self { oldest: OLDEST, newest: CURRENT };

    /// As a process of the version that had this schema; `None` if it is not one that is spoken.
    pub fn up_to(newest: u32) -> Option<Self> {
        (OLDEST..=CURRENT).contains(&newest).then_some(Self { oldest: OLDEST, newest })
    }

    /// As a peer says it; one that says nothing is of a version that knew the first only.
    pub fn said(oldest: u32, newest: u32) -> Self {
        let newest = newest.max(1);
        Self { oldest: oldest.clamp(1, newest), newest }
    }

    /// The newest that both speak.
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

impl fmt::Display for Schemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { oldest, newest } if oldest == newest => write!(f, "schema {newest}"),
            Self { oldest, newest } => write!(f, "schemas {oldest} to {newest}"),
        }
    }
}

/// A process that meets another.
#[derive(Clone, Debug)]
pub struct Party {
    /// What people call it, such as `zone east`.
    pub name: String,
    /// Its version; empty if it does not say.
    pub version: String,
    /// What it speaks.
    pub schemas: Schemas,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, version, schemas } = self;
        if version.is_empty() {
            write!(f, "{name} speaks {schemas}")
        } else {
            write!(f, "{name} (version {version}) speaks {schemas}")
        }
    }
}

/// The schema that two processes use; if there is none, why, and which of them to upgrade.
pub fn agree(one: &Party, other: &Party) -> Result<u32, String> {
    one.schemas.common(other.schemas).ok_or_else(|| {
        let (older, newer) =
            if one.schemas.newest < other.schemas.newest { (one, other) } else { (other, one) };
        format!(
            "{older}, and {newer}: they have none in common; upgrade {} first, to a version that speaks schema {}",
            older.name, newer.schemas.oldest
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{KINDS, decode_value};

    #[test]
    fn what_the_table_names_is_there_and_of_schemas_that_there_are() {
        for addition in ADDITIONS {
            assert!((2..=CURRENT).contains(&addition.since), "{addition:?}");
            let Some(path) = addition.field else { continue };
            let crd = serde_json::to_value((addition.kind.info().crd)()).unwrap();
            let mut schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            for part in path.split('.') {
                let (name, each) = part.strip_suffix("[]").map_or((part, false), |name| (name, true));
                schema = &schema["properties"][name];
                assert!(schema.is_object(), "{}: no {path}", addition.kind);
                schema = if each { &schema["items"] } else { schema };
            }
            // The API server would write it into what users wrote before, which an older version then does not take.
            assert!(schema["default"].is_null(), "{}: {path} has a default", addition.kind);
        }
        for (position, addition) in ADDITIONS.iter().enumerate() {
            assert!(!ADDITIONS[..position].contains(addition), "{addition:?} is there twice");
        }
    }

    /// Versions of objects are of what crosses: were a default written out, an old peer's would never be the same.
    #[test]
    fn what_is_not_used_is_left_out() {
        let insight = json!({"mesh": "default", "zone": "east", "dataplane": "web-1", "address": "10.0.0.1"});
        for info in KINDS {
            let fields: Vec<_> =
                ADDITIONS.iter().filter(|a| a.kind == info.kind).filter_map(|a| a.field).collect();
            if fields.is_empty() {
                continue;
            }
            let spec = match info.kind {
                Kind::DataplaneInsight => insight.clone(),
                Kind::Dataplane => json!({"networking": {"address": "10.0.0.1"}}),
                _ => json!({}),
            };
            let document = json!({"apiVersion": crate::API_VERSION, "kind": info.name, "metadata": {"name": "a"}, "spec": spec});
            let value = decode_value(&document).unwrap().to_value();
            for path in fields {
                assert!(!fields::is_present(&value, path), "{}: {path} in {value}", info.name);
            }
        }
    }

    #[test]
    fn an_older_one_gets_what_it_knows_and_refuses_the_rest() {
        let full = json!({"kind": "Mesh", "spec": {"members": {"zones": ["east"]}, "routing": {}}});
        assert_eq!(unknown_fields(Kind::Mesh, &full, 1), ["spec.members"]);
        assert_eq!(check(Kind::Mesh, &full, 1).unwrap_err().to_string(), "spec.members: unknown field");
        assert_eq!(check(Kind::Mesh, &full, 2), Ok(()));
        let mut pruned = full.clone();
        prune(Kind::Mesh, &mut pruned, 2);
        assert_eq!(pruned, full);
        prune(Kind::Mesh, &mut pruned, 1);
        assert_eq!(pruned, json!({"kind": "Mesh", "spec": {"routing": {}}}));
        assert_eq!(check(Kind::Mesh, &pruned, 1), Ok(()));
        assert!(knows(Kind::Mesh, 1) && !knows(Kind::MeshZoneInsight, 1) && knows(Kind::MeshZoneInsight, 2));
        assert!(
            check(Kind::MeshZoneInsight, &json!({}), 1).unwrap_err().to_string().contains("unknown kind")
        );
    }

    #[test]
    fn two_use_the_newest_that_both_speak_or_are_told_which_to_upgrade() {
        let party = |name: &str, oldest, newest| Party {
            name: name.into(),
            version: format!("0.{newest}"),
            schemas: Schemas { oldest, newest },
        };
        let (one, three) = (party("zone east", 1, 1), party("global", 3, 4));
        assert_eq!(agree(&one, &party("global", 1, 2)), Ok(1));
        assert_eq!(agree(&party("zone east", 2, 3), &party("global", 1, 2)), Ok(2));
        let reason = "zone east (version 0.1) speaks schema 1, and global (version 0.4) speaks schemas 3 to 4: they have \
                      none in common; upgrade zone east first, to a version that speaks schema 3";
        assert_eq!(agree(&one, &three), Err(reason.into()));
        assert_eq!(agree(&three, &one), Err(reason.into()));
        assert_eq!(Schemas::said(0, 0), Schemas { oldest: 1, newest: 1 });
        assert_eq!(Schemas::up_to(CURRENT), Some(Schemas::OURS));
        assert_eq!(Schemas::up_to(CURRENT + 1), None);
        assert_eq!(Schemas::up_to(0), None);
    }
}
