//! How it stands with zones, from what global has observed of them.

use ursa_crds::{Object, ObjectKey, Spec, ZoneInsightSpec, ZoneSpec};
use ursa_store::Store;

/// How it stands with a zone's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneState {
    /// Its stream is open.
    Online,
    /// Its stream is not open.
    Stale,
    /// It cannot connect: it speaks no schema that global speaks.
    Incompatible,
    /// Its user wants no traffic sent to it.
    Disabled,
    /// It was never connected.
    New,
}

impl ZoneState {
    /// `connected`: whether its stream is open.
    pub fn of(spec: &ZoneSpec, connected: bool, insight: &ZoneInsightSpec) -> Self {
        match (spec.enabled, connected) {
            (false, _) => Self::Disabled,
            (true, true) => Self::Online,
            (true, false) if !insight.incompatible.is_empty() => Self::Incompatible,
            (true, false) if insight.connected_at.is_some() => Self::Stale,
            (true, false) => Self::New,
        }
    }

    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "Online",
            Self::Stale => "Stale",
            Self::Incompatible => "Incompatible",
            Self::Disabled => "Disabled",
            Self::New => "New",
        }
    }
}

/// What global has observed of a zone.
pub fn zone_insight(store: &Store, zone: &str) -> ZoneInsightSpec {
    let key = ObjectKey::zone_insight(zone);
    match store.get(&key).as_deref() {
        Some(Object { spec: Spec::ZoneInsight(spec), .. }) => spec.clone(),
        _ => ZoneInsightSpec::default(),
    }
}
