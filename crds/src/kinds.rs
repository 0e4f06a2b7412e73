//! The one list of kinds: stores, sync, validation, REST routes, CLI and generators iterate over it.

use std::fmt;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_core::CustomResourceExt as _;
use serde::Serialize;
use serde_json::Value;

use crate::decode::{Known, Problem, known};
use crate::{
    dataplane, dataplane_insight, mesh, mesh_zone, mesh_zone_insight, secret, traffic_permission,
    traffic_route, zone, zone_ingress, zone_insight,
};

/// Where the names of a kind are unique, and the REST path that follows from it. Whether its objects are in namespaces on
/// Kubernetes is another question ([`KindInfo::namespaced`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In the whole system: `/PLURAL/NAME`.
    Global,
    /// In a mesh: `/meshes/MESH/PLURAL/NAME`; the resource carries `spec.mesh`.
    Mesh,
}

/// Who writes objects of a kind; all others only read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Users, at global; every zone gets a copy.
    Global,
    /// Users, at global; it stays there.
    GlobalOnly,
    /// The zone; it stays there.
    ZoneOnly,
    /// The zone that the object names; global and the other zones get a copy.
    Zone,
    /// The zone that the object names, of what it observes; global gets a copy.
    ZoneObserved,
    /// Global, of what it observes; it stays there.
    GlobalObserved,
}

/// What is known of a kind without an object of it.
#[derive(Debug)]
pub struct KindInfo {
    /// The kind.
    pub kind: Kind,
    /// As `kind` says it in a resource.
    pub name: &'static str,
    /// Lower-case plural: the REST path and the CRD's plural.
    pub plural: &'static str,
    /// Lower-case singular, as the CLI takes it.
    pub singular: &'static str,
    /// Short names, as the CLI takes them.
    pub short_names: &'static [&'static str],
    /// Where names are unique.
    pub scope: Scope,
    /// Whether its objects are in namespaces, on Kubernetes.
    pub namespaced: bool,
    /// Who writes it.
    pub owner: Owner,
    /// The custom resource definition as the types give it.
    pub crd: fn() -> CustomResourceDefinition,
    /// Reads what is known of `spec`; paths start with `spec`.
    pub decode_spec: fn(&Value) -> Result<Known<Spec>, Problem>,
}

macro_rules! kinds {
    // What the type gives, or a definition with more than a type can say.
    (@crd $derived:path) => { $derived };
    (@crd $derived:path, $own:path) => { $own };
    ($($kind:ident { module: $module:ident, spec: $spec:ident, plural: $plural:literal, singular: $singular:literal,
        short: $short:expr, scope: $scope:ident, namespaced: $namespaced:literal, owner: $owner:ident
        $(, crd: $crd:path)? },)*) => {
        /// A kind of resource.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $(
            #[doc = concat!("See [`", stringify!($module), "::", stringify!($spec), "`](crate::", stringify!($spec), ").")]
            $kind,
        )* }

        /// The specification of an object of any kind.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum Spec { $(
            #[doc = concat!("Of the kind `", stringify!($kind), "`.")]
            $kind($module::$spec),
        )* }

        /// Every kind, in the order in which objects that depend on each other can be applied.
        pub const KINDS: &[KindInfo] = &[$(KindInfo {
            kind: Kind::$kind,
            name: stringify!($kind),
            plural: $plural,
            singular: $singular,
            short_names: $short,
            scope: Scope::$scope,
            namespaced: $namespaced,
            owner: Owner::$owner,
            crd: kinds!(@crd $module::$kind::crd $(, $crd)?),
            decode_spec: |value| known(value, "spec").map(|(spec, unknown)| (Spec::$kind(spec), unknown)),
        },)*];

        impl Spec {
            /// The kind that it specifies.
            pub fn kind(&self) -> Kind {
                match self { $(Self::$kind(_) => Kind::$kind,)* }
            }
        }
    };
}

kinds! {
    Mesh { module: mesh, spec: MeshSpec, plural: "meshes", singular: "mesh", short: &[], scope: Global, namespaced: false, owner: Global },
    Secret { module: secret, spec: SecretSpec, plural: "secrets", singular: "secret", short: &[], scope: Mesh, namespaced: true, owner: GlobalOnly },
    Zone { module: zone, spec: ZoneSpec, plural: "zones", singular: "zone", short: &[], scope: Global, namespaced: false, owner: GlobalOnly },
    ZoneIngress { module: zone_ingress, spec: ZoneIngressSpec, plural: "zoneingresses", singular: "zoneingress", short: &["zi"], scope: Global, namespaced: true, owner: Zone, crd: zone_ingress::definition },
    MeshZone { module: mesh_zone, spec: MeshZoneSpec, plural: "meshzones", singular: "meshzone", short: &[], scope: Mesh, namespaced: true, owner: Zone },
    Dataplane { module: dataplane, spec: DataplaneSpec, plural: "dataplanes", singular: "dataplane", short: &["dp"], scope: Mesh, namespaced: true, owner: ZoneOnly },
    DataplaneInsight { module: dataplane_insight, spec: DataplaneInsightSpec, plural: "dataplaneinsights", singular: "dataplaneinsight", short: &["dpi"], scope: Mesh, namespaced: true, owner: ZoneObserved },
    MeshZoneInsight { module: mesh_zone_insight, spec: MeshZoneInsightSpec, plural: "meshzoneinsights", singular: "meshzoneinsight", short: &[], scope: Mesh, namespaced: true, owner: ZoneObserved },
    ZoneInsight { module: zone_insight, spec: ZoneInsightSpec, plural: "zoneinsights", singular: "zoneinsight", short: &[], scope: Global, namespaced: false, owner: GlobalObserved },
    TrafficPermission { module: traffic_permission, spec: TrafficPermissionSpec, plural: "trafficpermissions", singular: "trafficpermission", short: &["tp"], scope: Mesh, namespaced: true, owner: Global },
    TrafficRoute { module: traffic_route, spec: TrafficRouteSpec, plural: "trafficroutes", singular: "trafficroute", short: &["tr"], scope: Mesh, namespaced: true, owner: Global },
}

impl Owner {
    /// Whether users write objects of the kind somewhere; all others are written by control planes.
    pub fn is_users(self) -> bool {
        matches!(self, Self::Global | Self::GlobalOnly | Self::ZoneOnly)
    }
}

impl Kind {
    /// What is known of the kind.
    pub fn info(self) -> &'static KindInfo {
        &KINDS[self as usize]
    }

    /// By the name in a resource's `kind`.
    pub fn by_name(name: &str) -> Option<Self> {
        KINDS.iter().find(|info| info.name == name).map(|info| info.kind)
    }

    /// By the plural in a REST path.
    pub fn by_plural(plural: &str) -> Option<Self> {
        KINDS.iter().find(|info| info.plural == plural).map(|info| info.kind)
    }

    /// By any word that a person would type: name, plural, singular or short name, in any case.
    pub fn by_word(word: &str) -> Option<Self> {
        let word = word.to_lowercase();
        let known = |info: &&KindInfo| {
            info.plural == word || info.singular == word || info.short_names.contains(&word.as_str())
        };
        KINDS.iter().find(known).map(|info| info.kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().name)
    }
}

impl Spec {
    /// The mesh that the object says it belongs to; `None` for kinds that belong to none.
    pub fn mesh(&self) -> Option<&str> {
        match self {
            Self::Mesh(_) | Self::Zone(_) | Self::ZoneIngress(_) | Self::ZoneInsight(_) => None,
            Self::Secret(spec) => Some(&spec.mesh),
            Self::MeshZone(spec) => Some(&spec.mesh),
            Self::Dataplane(spec) => Some(&spec.mesh),
            Self::DataplaneInsight(spec) => Some(&spec.mesh),
            Self::MeshZoneInsight(spec) => Some(&spec.mesh),
            Self::TrafficPermission(spec) => Some(&spec.mesh),
            Self::TrafficRoute(spec) => Some(&spec.mesh),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_the_order_of_the_enum_and_agrees_with_the_definitions() {
        for (position, info) in KINDS.iter().enumerate() {
            assert_eq!(info.kind as usize, position);
            let crd = (info.crd)();
            assert_eq!(crd.spec.names.plural, info.plural);
            assert_eq!(crd.spec.names.kind, info.name);
            assert_eq!(crd.spec.names.singular.as_deref(), Some(info.singular));
            assert_eq!(crd.spec.names.short_names.unwrap_or_default(), info.short_names);
            assert_eq!(crd.spec.scope == "Namespaced", info.namespaced);
            assert!(info.namespaced || info.scope == Scope::Global, "a mesh is no namespace");
        }
    }
}
