//! What a mesh grants to whom: to be in it, to carry the name of a service, to have a tag in an identity.
//!
//! Invariant: what is granted follows from the mesh, the zone and the namespace alone. Nobody is asked twice, and all
//! control planes that know the mesh agree.

use ursa_crds::MeshSpec;

/// Where a workload is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) zone: &'a str,
    /// None on virtual machines, which lists of namespaces do not judge: their tokens do.
    pub(crate) namespace: Option<&'a str>,
}

impl<'a> Place<'a> {
    pub(crate) fn zone(zone: &'a str) -> Self {
        Self { zone, namespace: None }
    }

    /// `namespace`: empty where there is none.
    pub(crate) fn new(zone: &'a str, namespace: &'a str) -> Self {
        Self { zone, namespace: Some(namespace).filter(|namespace| !namespace.is_empty()) }
    }

    fn is_listed(self, namespaces: &[String], zones: &[String]) -> bool {
        let listed = |list: &[String], name: &str| list.is_empty() || list.iter().any(|known| known == name);
        listed(zones, self.zone) && self.namespace.is_none_or(|namespace| listed(namespaces, namespace))
    }
}

/// Whether workloads may be in the mesh.
pub(crate) fn is_member(mesh: &MeshSpec, place: Place<'_>) -> bool {
    mesh.members.as_ref().is_none_or(|members| place.is_listed(&members.namespaces, &members.zones))
}

/// Whether workloads of a zone may be in the mesh.
pub fn is_member_zone(mesh: &MeshSpec, zone: &str) -> bool {
    is_member(mesh, Place::zone(zone))
}

/// Whether workloads may carry the name of a service. Pods carry `<service>.<own namespace>` and what is granted; virtual
/// machines what their tokens say, unless it is granted to others.
pub(crate) fn may_carry_name(mesh: &MeshSpec, place: Place<'_>, name: &str) -> bool {
    let granted = mesh.services.iter().find(|service| service.name == name);
    let granted = granted.map(|service| place.is_listed(&service.namespaces, &service.zones));
    match place.namespace {
        Some(namespace) => is_own(name, namespace) || granted == Some(true),
        None => granted != Some(false),
    }
}

/// Whether any workload of a zone may carry the name of a service.
pub(crate) fn zone_may_carry_name(mesh: &MeshSpec, zone: &str, name: &str) -> bool {
    // With a dot it may be the own name of some namespace of the zone.
    may_carry_name(mesh, Place::zone(zone), name) || name.contains('.')
}

/// Whether the mesh declares that a tag is part of identities.
pub(crate) fn is_declared(mesh: &MeshSpec, key: &str) -> bool {
    mesh.identity_tags.iter().any(|tag| tag.key == key)
}

/// Whether workloads may have a tag in their identities.
pub(crate) fn may_carry_tag(mesh: &MeshSpec, place: Place<'_>, key: &str) -> bool {
    let declared = mesh.identity_tags.iter().find(|tag| tag.key == key);
    declared.is_some_and(|tag| place.is_listed(&tag.namespaces, &tag.zones))
}

/// Namespaces are DNS labels: what comes after the last dot is one.
fn is_own(name: &str, namespace: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(service, last)| last == namespace && !service.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh(spec: &str) -> MeshSpec {
        let yaml = format!(
            "apiVersion: ursamesh.io/v1alpha1\nkind: Mesh\nmetadata: {{name: default}}\nspec: {spec}\n"
        );
        match ursa_crds::decode(yaml.as_bytes()).unwrap().spec {
            ursa_crds::Spec::Mesh(spec) => spec,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn a_mesh_that_says_nothing_takes_everybody_and_grants_no_name_to_pods() {
        let mesh = mesh("{}");
        for place in [Place::zone("east"), Place::new("east", "shop")] {
            assert!(is_member(&mesh, place));
            assert!(!may_carry_tag(&mesh, place, "team"));
        }
        assert!(may_carry_name(&mesh, Place::zone("east"), "redis"));
        assert!(!may_carry_name(&mesh, Place::new("east", "shop"), "redis"));
    }

    #[test]
    fn a_pods_own_name_ends_in_its_namespace() {
        let mesh = mesh("{}");
        let carried = |name: &str| may_carry_name(&mesh, Place::new("east", "shop"), name);
        assert!(carried("redis.shop") && carried("a.b.shop"));
        for other in
            ["redis", "shop", ".shop", "redis.shop.bank", "redis-shop", "redis.myshop", "redis.shop."]
        {
            assert!(!carried(other), "{other}");
        }
    }

    #[test]
    fn who_is_listed_may_and_an_empty_list_is_everybody() {
        let mesh = mesh(
            "{members: {namespaces: [shop, bank], zones: [east]}, services: [{name: redis, namespaces: [shop]}, \
             {name: db, zones: [east]}], identityTags: [{key: team, namespaces: [bank]}, {key: tier}]}",
        );
        let (shop, bank, vm, west) = (
            Place::new("east", "shop"),
            Place::new("east", "bank"),
            Place::zone("east"),
            Place::zone("west"),
        );
        let all = [shop, bank, vm, west];
        assert_eq!(all.map(|place| is_member(&mesh, place)), [true, true, true, false]);
        assert!(!is_member(&mesh, Place::new("east", "dev")));
        assert_eq!(all.map(|place| may_carry_name(&mesh, place, "redis")), [true, false, true, true]);
        assert_eq!(all.map(|place| may_carry_name(&mesh, place, "db")), [true, true, true, false]);
        assert_eq!(all.map(|place| may_carry_tag(&mesh, place, "team")), [false, true, true, true]);
        assert_eq!(all.map(|place| may_carry_tag(&mesh, place, "tier")), [true; 4]);
        assert!(!zone_may_carry_name(&mesh, "west", "db") && zone_may_carry_name(&mesh, "west", "db.shop"));
    }
}
